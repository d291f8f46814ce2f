"""Make a model fit its tokenizer and the sequence length: embedding rows, special ids, positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from newt.config.core import Model
from newt.models.untrained import trained_ids
from newt.support.errors import NewtError

FEW = 0.75
"""A tokenizer with fewer tokens than this part of the model's is probably another model's."""

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
    ends = [(name, trained_ids(end)) for name, end in _ends(model)]
    lost = [number for number in ids if any(trained is not None and number not in trained for _, trained in ends)]
    if lost:
        names = [name for name, _ in ends]
        where = "a new row" if grown else "an unused row"
        rows = f"[{', '.join(map(str, sorted(ids)))}]"
        if len(names) > 1 and not _tied(model):
            rows = "{" + ", ".join(f"{name}: {rows}" for name in names) + "}"
        raise NewtError(
            f"special_tokens: {ids[lost[0]]!r} is new to this tokenizer ({where} of the embedding), and would stay "
            f"untrained. Set lora_modules_to_save: [{', '.join(names)}], or train these rows alone with "
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
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind not in LENGTH_FREE_ROPE:
        notes.append(f"sequence_len {length} is longer than the model's {limit} positions (rope {kind}: left as it is)")
        return
    config.max_position_embeddings = length
    notes.append(f"the model was made for {limit} positions: max_position_embeddings is now {length}")


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


def stop_ids(eos: int, old: int | list[int] | None) -> int | list[int]:
    """The end token before what ended a text until now."""
    others = [old] if isinstance(old, int) else list(old or ())
    stops = [eos, *(stop for stop in others if stop != eos)]
    return stops if len(stops) > 1 else eos
