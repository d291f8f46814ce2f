"""Which chat template a dataset uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from newt.config.core import Dataset, Template
from newt.config.section import Config
from newt.support.errors import NewtError

_FOLDER = Path(__file__).parent / "templates"
_DEFAULT = "tokenizer_default"
_FALLBACK = "tokenizer_default_fallback_"
_SHARED = "_shared"
_SAME = {"aya": "cohere", "gemma4_unified": "gemma4"}


def template_names() -> tuple[str, ...]:
    """Names of the built-in templates. Reads only the folder."""
    stems = {path.stem for path in _FOLDER.glob("*.jinja")} - {_SHARED}
    return tuple(sorted(stems | set(_SAME)))


def built_in(name: str) -> str:
    """The Jinja text of a built-in template, which needs no other file: the shared macros stand before it."""
    files = (_SHARED, _SAME.get(name, name))
    return "".join((_FOLDER / f"{file}.jinja").read_text(encoding="utf-8") for file in files)


def is_template(name: str) -> bool:
    """Whether ``chat_template`` may have this value."""
    return name in (_DEFAULT, "jinja") or name.removeprefix(_FALLBACK) in template_names()


def resolve_template(entry: Dataset, cfg: Config, tokenizer: Any) -> str:
    """The Jinja text for a dataset: its own choice, else that of the config, else the tokenizer's template.

    With ``default_system_message`` it gives that message to conversations that have no system turn. The template
    itself does it, so that it is saved with the model and the same at inference.

    Raises:
        NewtError: there is no such template.
    """
    text = _chosen(entry, cfg, tokenizer)
    default = cfg[Template].default_system_message
    return text if default is None else _with_default(text, default)


def _with_default(text: str, message: str) -> str:
    """The template with a system message for conversations that have none."""
    turn = json.dumps([{"role": "system", "content": message}], ensure_ascii=False)
    head = (
        "{%- if not messages or messages[0]['role'] not in ['system', 'developer'] %}"
        f"{{%- set messages = {turn} + messages|list %}}{{%- endif %}}\n"
    )
    return text if text.startswith(head) else head + text


def _chosen(entry: Dataset, cfg: Config, tokenizer: Any) -> str:
    for place in (entry, cfg[Template]):
        name: str | None = getattr(place, "chat_template", None)
        text: str | None = getattr(place, "chat_template_jinja", None)
        if name == "jinja" or (text and name is None):
            return _jinja(text)
        if name is not None:
            return _named(name, tokenizer)
    return _named(_DEFAULT, tokenizer)


def _jinja(text: str | None) -> str:
    if not text:
        raise NewtError("chat_template: jinja needs the template: set chat_template_jinja.")
    if "\n" not in text and "{" not in text:
        path = Path(text).expanduser()
        if not path.is_file():
            raise NewtError(f"chat_template_jinja: {text} is neither a file nor a Jinja template.")
        return path.read_text(encoding="utf-8")
    return text


def _named(name: str, tokenizer: Any) -> str:
    if name == _DEFAULT or name.startswith(_FALLBACK):
        own = tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        if own:
            return str(own)
        if name == _DEFAULT:
            raise NewtError(
                "chat_template: the tokenizer has no chat template. "
                f"Set chat_template to one of: {', '.join(template_names())}, or jinja."
            )
        name = name.removeprefix(_FALLBACK)
    if name not in template_names():
        raise NewtError(
            f"chat_template: unknown template {name!r}. "
            f"Valid: {_DEFAULT}, {_FALLBACK}<name>, jinja, {', '.join(template_names())}."
        )
    return built_in(name)
