"""The tokenizer that a config asks for: special tokens, added tokens, and the padding token last."""

from __future__ import annotations

import difflib
from typing import Any

from newt.config.core import Model
from newt.config.section import Config
from newt.models.facts import require_model
from newt.support.errors import NewtError

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


def load_tokenizer(cfg: Config, chat_template: str | None = None) -> Any:
    """The tokenizer with the config's special tokens.

    The order is: special_tokens, tokens, additional special tokens, and the padding fallback last, so that a padding
    token that the config names is never replaced. What was decided for the user stands in ``tokenizer.newt_notes``, and
    the tokens whose embeddings nobody has trained yet in ``tokenizer.newt_untrained``.

    Args:
        cfg: the config.
        chat_template: Jinja text that replaces the tokenizer's own and is saved with it.

    Raises:
        NewtError: it cannot be loaded, or has no token to pad with.
    """
    model = cfg[Model]
    source = model.tokenizer_config or model.base_model
    tokenizer = _load(cfg, source)
    notes: list[str] = []
    before = set(tokenizer.get_vocab())
    special = model.special_tokens
    named = {name: value for name in NAMED if special and (value := getattr(special, name))}
    _add_special(tokenizer, named)
    _add_plain(tokenizer, model.tokens or ())
    _add_extra(tokenizer, (special.additional_special_tokens if special else None) or ())
    _family_fixes(tokenizer)
    _pad_fallback(tokenizer, notes)
    added = set(tokenizer.get_vocab()) - before
    if added:
        notes.append(f"the tokenizer grew by {len(added)} to {len(tokenizer)} tokens")
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    tokenizer.newt_notes = notes
    tokenizer.newt_untrained = sorted(added - {tokenizer.pad_token})  # padding is never trained
    return tokenizer


def _load(cfg: Config, source: str) -> Any:
    import transformers

    model = cfg[Model]
    if source == model.base_model:
        require_model(source, weights=False, revision=model.revision_of_model)
    kind = getattr(transformers, model.tokenizer_type or "AutoTokenizer", None)
    if kind is None:
        near = difflib.get_close_matches(str(model.tokenizer_type), dir(transformers), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise NewtError(f"tokenizer_type: transformers has no class {model.tokenizer_type}.{hint}")
    revision = {"revision": model.revision_of_model} if model.revision_of_model and source == model.base_model else {}
    legacy = {} if model.tokenizer_legacy is None else {"legacy": model.tokenizer_legacy}
    try:
        return kind.from_pretrained(
            source, use_fast=model.tokenizer_use_fast, trust_remote_code=model.trust_remote_code, **revision, **legacy
        )
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        key = "tokenizer_config" if model.tokenizer_config else "base_model"
        raise NewtError(
            f"{key}: cannot load a tokenizer from {source}: {' '.join(str(error).split())[:300]}"
        ) from error


def _token(text: str) -> Any:
    from tokenizers import AddedToken

    return AddedToken(text, rstrip=False, lstrip=False, normalized=False, special=True)


def _add_special(tokenizer: Any, named: dict[str, str]) -> None:
    if named:
        tokenizer.add_special_tokens({name: _token(text) for name, text in named.items()})
        _refresh_post_processor(tokenizer, named)


def _refresh_post_processor(tokenizer: Any, named: dict[str, str]) -> None:
    """A tokenizer that adds bos or eos by itself must add the new ones."""
    if {"bos_token", "eos_token"} & set(named) and hasattr(tokenizer, "update_post_processor"):
        adds = getattr(tokenizer, "add_bos_token", False) or getattr(tokenizer, "add_eos_token", False)
        if adds:
            tokenizer.update_post_processor()


def _add_plain(tokenizer: Any, tokens: tuple[str, ...]) -> None:
    from tokenizers import AddedToken

    if tokens:
        tokenizer.add_tokens([AddedToken(text, rstrip=False, lstrip=False, normalized=False) for text in tokens])


def _add_extra(tokenizer: Any, tokens: tuple[str, ...]) -> None:
    if tokens:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": [_token(text) for text in tokens]}, replace_extra_special_tokens=False
        )


def _family_fixes(tokenizer: Any) -> None:
    """Qwen 1 has no named special tokens: its end of text serves as all of them."""
    if getattr(tokenizer, "eod_id", None) is not None and tokenizer.eos_token is None:
        for name in NAMED:
            setattr(tokenizer, name, "<|endoftext|>")


def _pad_fallback(tokenizer: Any, notes: list[str]) -> None:
    if tokenizer.pad_token is not None:
        return
    if tokenizer.eos_token is None:
        raise NewtError("special_tokens.pad_token: the tokenizer has neither a padding nor an end token: set one")
    tokenizer.pad_token = tokenizer.eos_token
    notes.append(f"the tokenizer has no padding token: {tokenizer.eos_token} is used (special_tokens.pad_token)")
