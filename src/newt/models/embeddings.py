"""Make a model fit its tokenizer and the sequence length: embedding rows, special ids, positions."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from newt.config.core import Model
from newt.models.untrained import trained_ids, untrained_rows
from newt.support.errors import NewtError
from newt.support.files import write_atomically

FEW = 0.75
"""A tokenizer with fewer tokens than this part of the model's is probably another model's."""

SAMPLE = 2048
"""Rows of an embedding that tell how much the values of a usual row differ."""

LENGTH_FREE_ROPE = ("default", "linear", "llama3", "proportional")
"""Rope types whose frequencies do not depend on ``max_position_embeddings``."""


def resize_embeddings(model: Any, tokens: int, settings: Model, notes: list[str]) -> bool:
    """Give every token an embedding row.

    The embedding grows if the tokenizer needs more rows (to a multiple of 32 if asked for), shrinks only if asked for,
    and stays tied to the output layer if it was.

    Args:
        model: a transformers model.
        tokens: rows that the tokenizer needs.
        settings: the config's keys for embeddings.
        notes: gets a line if the size changes.

    Returns:
        Whether rows were added.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    wanted = -(-tokens // 32) * 32 if settings.resize_token_embeddings_to_32x else tokens
    if rows == wanted or (rows > wanted and not settings.shrink_embeddings):
        model.tie_weights()
        return False
    model.resize_token_embeddings(wanted, mean_resizing=settings.mean_resizing_embeddings)
    notes.append(f"the embedding was resized from {rows} to {wanted} rows")
    return bool(wanted > rows)


def check_vocabulary(model: Any, tokenizer: Any, settings: Model, notes: list[str]) -> None:
    """A tokenizer of another model would train nonsense without any sign of it.

    Tokens that were added to a tokenizer may lack a row (the embedding grows); its own may not.

    Raises:
        NewtError: the tokenizer's own vocabulary is larger than the embedding.
    """
    own, rows = getattr(tokenizer, "newt_own", 0), model.get_input_embeddings().weight.shape[0]
    key = "tokenizer_config" if settings.tokenizer_config else "base_model"
    if settings.reinit_weights:
        return
    if own > rows:
        raise NewtError(
            f"{key}: the tokenizer has {own} tokens, but the model has embeddings of {rows}: it is another model's. "
            "Set tokenizer_config to the model's own"
        )
    if len(tokenizer) < FEW * rows:
        notes.append(f"the tokenizer has {len(tokenizer)} tokens, the model {rows}: is it the model's own? ({key})")


def refuse_untrained_tokens(model: Any, tokenizer: Any, grown: bool) -> None:
    """A token that the config adds needs a trained embedding; an adapter alone leaves it random.

    Raises:
        NewtError: names the keys to set.
    """
    new: Sequence[str] = getattr(tokenizer, "newt_untrained", ())
    ids = {tokenizer.convert_tokens_to_ids(text): text for text in new}
    lost = _not_trained(model, ids)
    if lost:
        where = "a new row" if grown else "an unused row"
        raise NewtError(
            f"special_tokens: {ids[lost[0]]!r} is new to this tokenizer ({where} of the embedding), and would stay "
            f"untrained. {_how_to_train(model, ids)}"
        )
    renamed: Sequence[int] = getattr(tokenizer, "newt_renamed", ())
    lost = _never_trained(model, _not_trained(model, renamed))
    if lost:
        raise NewtError(
            f"added_tokens_overrides: nobody has trained the embedding of token {lost[0]} yet, and it would stay "
            f"untrained. {_how_to_train(model, renamed)}"
        )


def note_untrained_ends(model: Any, tokenizer: Any, ends: Collection[str], notes: list[str]) -> None:
    """Base models have rows for the special tokens of their chat models that pretraining never changed. An adapter
    that leaves the row of the token that ends an answer as it is can hardly learn to write it.

    Args:
        model: the model, with its adapter.
        tokenizer: its tokenizer.
        ends: tokens that end a turn, besides the end token.
        notes: gets a line.
    """
    texts = dict.fromkeys(text for text in (tokenizer.eos_token, *ends) if text)
    ids = {tokenizer.convert_tokens_to_ids(text): text for text in texts}
    vocabulary = tokenizer.get_vocab()
    lost = _never_trained(model, _not_trained(model, [number for number, text in ids.items() if text in vocabulary]))
    if lost:
        notes.append(
            f"the embedding of {ids[lost[0]]!r}, which ends an answer, was never trained and stays so. "
            f"{_how_to_train(model, lost)}, and set fix_untrained_tokens: {lost}"
        )


def _not_trained(model: Any, ids: Iterable[int]) -> list[int]:
    """Those of some token ids that have a row in the embedding or the output layer that is not trained."""
    ends = [trained_ids(end) for _, end in _ends(model)]
    return [number for number in ids if any(trained is not None and number not in trained for trained in ends)]


def _never_trained(model: Any, ids: Sequence[int]) -> list[int]:
    """Those of some token ids that have a row that was never trained."""
    found: set[int] = set()
    for weight in [end.weight.data for _, end in _ends(model)] if ids else []:
        if weight.is_floating_point():  # else it is held in few bits
            some = weight[:: max(1, len(weight) // SAMPLE)]
            flat = untrained_rows(torch.cat([weight[list(ids)], some]))
            found |= {number for number, untrained in zip(ids, flat.tolist(), strict=False) if untrained}
    return sorted(found)


def _how_to_train(model: Any, ids: Iterable[int]) -> str:
    names = [name for name, _ in _ends(model)]
    rows = f"[{', '.join(map(str, sorted(ids)))}]"
    if len(names) > 1 and not _tied(model):
        rows = "{" + ", ".join(f"{name}: {rows}" for name in names) + "}"
    if not hasattr(model, "peft_config"):
        return f"Add the rows {rows} to unfrozen_parameters"
    return (
        f"Set lora_modules_to_save: [{', '.join(names)}], or train these rows alone with "
        f"peft_trainable_token_indices: {rows}"
    )


def _tied(model: Any) -> bool:
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def _ends(model: Any) -> list[tuple[str, Any]]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = []
    for end, usual in ((base.get_input_embeddings(), "embed_tokens"), (base.get_output_embeddings(), "lm_head")):
        if end is not None:
            name = next((name for name, module in base.named_modules() if module is end), usual)
            parts = [part for part in name.split(".") if part not in ("modules_to_save", "original_module", "default")]
            found.append((parts[-1], end))
    return found


def fit_positions(model: Any, length: int, notes: list[str]) -> None:
    """Allow sequences of this length.

    Raises:
        NewtError: the model has learned position embeddings, which cannot be longer than they are.
    """
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or length <= limit:
        return
    token_rows = model.get_input_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and module is not token_rows and 0 <= module.num_embeddings - limit <= 2:
            raise NewtError(f"sequence_len: {length} is longer than the {limit} positions that {name} has learned")
    if kinds := length_bound_rope(config):
        kind = ", ".join(kinds)
        notes.append(f"sequence_len {length} is longer than the model's {limit} positions (rope {kind}: left as it is)")
        return
    config.max_position_embeddings = length
    notes.append(f"the model was made for {limit} positions: max_position_embeddings is now {length}")


def length_bound_rope(config: Any) -> list[str]:
    """Rope types of a text config, each kind of layer with its own, that ``max_position_embeddings`` changes."""
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    return sorted({part.get("rope_type", "default") for part in parts} - {*LENGTH_FREE_ROPE})


def raise_stored_positions(folder: Path, config: Any, length: int) -> tuple[str, ...]:
    """Let the config.json of a merged model allow rows as long as in training, as ``fit_positions`` did there.

    Args:
        folder: of the merged model.
        config: transformers config of its base.
        length: tokens in the longest row of the training.

    Returns:
        A line that says so, if anything changed.
    """
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None)
    if limit is None or length <= limit or not getattr(text, "rope_parameters", None) or length_bound_rope(text):
        return ()
    path = folder / "config.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    (stored.get("text_config") or stored)["max_position_embeddings"] = length
    write_atomically(path, json.dumps(stored, indent=2) + "\n")
    return (f"max_position_embeddings is {length} now, before {limit}: sequence_len of the training",)


def align_special_ids(model: Any, tokenizer: Any, notes: list[str]) -> None:
    """Let config and generation config name the tokenizer's special ids; what they had as stops stays a stop."""
    config, generation = model.config.get_text_config(), getattr(model, "generation_config", None)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(tokenizer, name)
        if value is None:
            continue
        old = getattr(config, name, None)
        if old is not None and old != value and not (isinstance(old, list) and value in old):
            notes.append(f"the model's {name} {old} is now {value}, as the tokenizer has it")
        if not (isinstance(old, list) and value in old):
            setattr(config, name, value)
            if config is not model.config and hasattr(model.config, name):
                setattr(model.config, name, value)
        if generation is not None:
            stops = getattr(generation, name, None)
            setattr(generation, name, stop_ids(value, stops) if name == "eos_token_id" else value)


def let_ends_learn(model: Any, tokenizer: Any) -> None:
    """torch gives the row of the padding token no gradient: where that token also ends texts, it would never be trained
    as an input. Padding itself is in no loss and in no attention."""
    embedding = model.get_input_embeddings()
    number = getattr(embedding, "padding_idx", None)
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    if number is not None and (number in used or number != tokenizer.pad_token_id):
        embedding.padding_idx = None


def stop_ids(eos: int, old: int | list[int] | None) -> int | list[int]:
    """The end token before what ended a text until now."""
    others = [old] if isinstance(old, int) else list(old or ())
    stops = [eos, *(stop for stop in others if stop != eos)]
    return stops if len(stops) > 1 else eos
