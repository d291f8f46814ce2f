"""The tokenizer that a config asks for: special tokens, added tokens, and the padding token last."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from newt.config.core import Model
from newt.config.section import Config
from newt.models.added_tokens import rename_tokens
from newt.models.facts import require_model, tokenizer_source
from newt.models.foreign_code import refuse_foreign_code
from newt.support.errors import NewtError, one_line

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


def load_tokenizer(cfg: Config, chat_template: str | None = None) -> Any:
    """The tokenizer with the config's special tokens.

    The order is: renamed tokens, fixes for families, special_tokens, tokens, additional special tokens, and the padding
    fallback last, so that a padding token that the config names is never replaced. What was decided for the user stands
    in ``tokenizer.newt_notes``, the tokens whose embeddings nobody has trained yet in ``tokenizer.newt_untrained``, the
    ids of reserved tokens that got a meaning in ``tokenizer.newt_renamed``, and the size of its own vocabulary, without
    added tokens, in ``tokenizer.newt_own``.

    Args:
        cfg: the config.
        chat_template: Jinja text that replaces the tokenizer's own and is saved with it.

    Raises:
        NewtError: it cannot be loaded, a token cannot be renamed, or there is no token to pad with.
    """
    model = cfg[Model]
    source = tokenizer_source(model)
    if uses_mistral_common(cfg):
        return _load_mistral(cfg, source)
    tokenizer = _load(cfg, source)
    notes: list[str] = []
    texts = cfg.value("added_tokens_overrides")
    if texts:
        tokenizer = _keep_legacy(rename_tokens(tokenizer, texts, notes))
    before = set(tokenizer.get_vocab())
    own = tokenizer.vocab_size
    special = model.special_tokens
    named = {name: value for name in NAMED if special and (value := getattr(special, name))}
    _family_fixes(tokenizer, named)
    _add_special(tokenizer, named)
    _add_plain(tokenizer, model.tokens or ())
    _add_extra(tokenizer, (special.additional_special_tokens if special else None) or ())
    _pad_fallback(tokenizer, notes)
    added = set(tokenizer.get_vocab()) - before
    if added:
        notes.append(f"the tokenizer grew by {len(added)} to {len(tokenizer)} tokens")
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    tokenizer.newt_notes = notes
    tokenizer.newt_own = own
    tokenizer.newt_renamed = sorted(texts or ())
    tokenizer.newt_untrained = sorted(added - _only_padding(tokenizer, model))
    return tokenizer


def _only_padding(tokenizer: Any, model: Model) -> set[str]:
    """The padding token, which is never trained, unless it is something else as well, such as the end of a text."""
    extra = (model.special_tokens.additional_special_tokens if model.special_tokens else None) or ()
    others = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, *(model.tokens or ()), *extra}
    return {tokenizer.pad_token} - others


def save_tokenizer(tokenizer: Any, folder: Path | str, cfg: Config) -> None:
    """Write a tokenizer with its chat template, in a file of its own unless ``tokenizer_save_jinja_files`` is false."""
    in_file = cfg.value("tokenizer_save_jinja_files") is not False
    tokenizer.save_pretrained(folder, **({} if in_file else {"save_jinja_files": False}))
    if not in_file:
        (Path(folder) / "chat_template.jinja").unlink(missing_ok=True)


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
        tokenizer = kind.from_pretrained(
            source, use_fast=model.tokenizer_use_fast, trust_remote_code=model.trust_remote_code, **revision, **legacy
        )
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        key = "tokenizer_config" if model.tokenizer_config else "base_model"
        refuse_foreign_code(error, key, source)
        raise NewtError(
            f"{key}: cannot load a tokenizer from {source}: {' '.join(str(error).split())[:300]}"
        ) from error
    return _keep_legacy(tokenizer)


def _keep_legacy(tokenizer: Any) -> Any:
    """transformers reads ``legacy`` of Llama's tokenizers and forgets to save it; without it text after a special token
    gets other ids."""
    if getattr(tokenizer, "legacy", None) is not None:
        tokenizer.init_kwargs["legacy"] = tokenizer.legacy
    return tokenizer


def uses_mistral_common(cfg: Config) -> bool:
    """Whether the tokenizer is one of mistral-common: as the config says, else for the models that need it."""
    wanted, model = cfg.value("tokenizer_use_mistral_common"), cfg[Model]
    names = (model.base_model, model.base_model_config, model.tokenizer_config)
    return any("magistral" in (name or "").lower() for name in names) if wanted is None else bool(wanted)


def _load_mistral(cfg: Config, source: str) -> Any:
    """A tokenizer of mistral-common behind the interface of transformers; nothing of it can be changed."""
    from newt.support.optional import require

    require("mistral_common", extra="mistral", used_by="tokenizer_use_mistral_common")
    from mistral_common.exceptions import MistralCommonException
    from transformers import MistralCommonBackend

    revision = cfg[Model].revision_of_model
    named = {"revision": revision} if revision and source == cfg[Model].base_model else {}
    try:
        tokenizer = MistralCommonBackend.from_pretrained(source, padding_side="right", **named)
    except (OSError, ValueError, ImportError, AssertionError, MistralCommonException) as error:
        key = "tokenizer_config" if cfg[Model].tokenizer_config else "base_model"
        raise NewtError(f"{key}: cannot load a tokenizer of mistral-common from {source}: {one_line(error)}") from error
    tokenizer.newt_notes = []
    tokenizer.newt_untrained = []
    tokenizer.newt_renamed = []
    return tokenizer


def has_chat_format(tokenizer: Any) -> bool:
    """Whether the tokenizer knows how conversations look; those of mistral-common do without a template."""
    return tokenizer.chat_template is not None or hasattr(getattr(tokenizer, "tokenizer", None), "instruct_tokenizer")


def _token(text: str) -> Any:
    from tokenizers import AddedToken

    return AddedToken(text, rstrip=False, lstrip=False, normalized=False, special=True)


def _add_special(tokenizer: Any, named: dict[str, str]) -> None:
    if named:
        before = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token")}
        tokenizer.add_special_tokens({name: _token(text) for name, text in named.items()})
        _refresh_post_processor(tokenizer, {before[name]: named[name] for name in before if name in named})


def _refresh_post_processor(tokenizer: Any, changed: dict[str | None, str]) -> None:
    """A tokenizer that adds bos or eos by itself must add the new ones: ``changed`` is old text -> new text."""
    if changed and hasattr(tokenizer, "update_post_processor"):
        adds = getattr(tokenizer, "add_bos_token", False) or getattr(tokenizer, "add_eos_token", False)
        if adds:
            tokenizer.update_post_processor()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.post_processor is None:
        return
    from tokenizers import Tokenizer

    ids = {old: (new, tokenizer.convert_tokens_to_ids(new)) for old, new in changed.items() if old and old != new}
    state = json.loads(backend.to_str()) if ids else {"post_processor": {}}
    changes = [_renamed(part, ids) for part in _templates(state["post_processor"])]
    if any(changes):
        backend.post_processor = Tokenizer.from_str(json.dumps(state)).post_processor


def _templates(state: Any) -> list[dict[str, Any]]:
    """The templates of a post-processor, of which some are sequences of others."""
    if state.get("type") == "Sequence":
        return [part for inner in state.get("processors", ()) for part in _templates(inner)]
    return [state] if state.get("type") == "TemplateProcessing" else []


def _renamed(template: dict[str, Any], ids: dict[str, tuple[str, int]]) -> bool:
    """Write other special tokens into a template, in place; returns whether there were any."""
    known = [old for old in ids if old in template["special_tokens"]]
    for old in known:
        new, number = ids[old]
        del template["special_tokens"][old]
        template["special_tokens"][new] = {"id": new, "ids": [number], "tokens": [new]}
        for kind in ("single", "pair"):
            for piece in template[kind]:
                if piece.get("SpecialToken", {}).get("id") == old:
                    piece["SpecialToken"]["id"] = new
    return bool(known)


def _add_plain(tokenizer: Any, tokens: tuple[str, ...]) -> None:
    from tokenizers import AddedToken

    if tokens:
        tokenizer.add_tokens([AddedToken(text, rstrip=False, lstrip=False, normalized=False) for text in tokens])


def _add_extra(tokenizer: Any, tokens: tuple[str, ...]) -> None:
    if tokens:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": [_token(text) for text in tokens]}, replace_extra_special_tokens=False
        )


def _family_fixes(tokenizer: Any, named: Mapping[str, str]) -> None:
    """What the tokenizers of some families lack; what the config names comes after it, and wins."""
    if getattr(tokenizer, "eod_id", None) is not None and tokenizer.eos_token is None:
        # Qwen 1 has no named special tokens: its end of text serves as all of them.
        for name in NAMED:
            setattr(tokenizer, name, "<|endoftext|>")
    if tokenizer.pad_token is not None or "pad_token" in named:
        return
    family = type(tokenizer).__name__
    if family.startswith(("Llama", "CodeLlama")) and "</s>" in tokenizer.get_vocab():
        tokenizer.pad_token = "</s>"
    elif family.startswith("GPTNeoX"):
        tokenizer.add_special_tokens({"pad_token": _token("[PAD]")})


def _pad_fallback(tokenizer: Any, notes: list[str]) -> None:
    if tokenizer.pad_token is not None:
        return
    if tokenizer.eos_token is None:
        raise NewtError("special_tokens.pad_token: the tokenizer has neither a padding nor an end token: set one")
    tokenizer.pad_token = tokenizer.eos_token
    notes.append(f"the tokenizer has no padding token: {tokenizer.eos_token} is used (special_tokens.pad_token)")
