"""Make a model fit its tokenizer and the sequence length: embedding rows, special ids, positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from newt.config.core import Model
from newt.support.errors import NewtError

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


def refuse_untrained_tokens(model: Any, tokenizer: Any, grown: bool) -> None:
    """A token that the config adds needs a trained embedding; an adapter alone leaves it random.

    Raises:
        NewtError: names the modules to train.
    """
    new: Sequence[str] = getattr(tokenizer, "newt_untrained", ())
    ends = [(name, end) for name, end in _ends(model) if not any(p.requires_grad for p in end.parameters())]
    if new and ends:
        names = ", ".join(name for name, _ in _ends(model))
        where = "a new row" if grown else "an unused row"
        raise NewtError(
            f"special_tokens: {new[0]!r} is new to this tokenizer ({where} of the embedding), and would stay "
            f"untrained. Set lora_modules_to_save: [{names}]"
        )


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
            setattr(generation, name, _stops(value, stops) if name == "eos_token_id" else value)


def _stops(eos: int, old: int | list[int] | None) -> int | list[int]:
    others = [old] if isinstance(old, int) else list(old or ())
    stops = [eos, *(stop for stop in others if stop != eos)]
    return stops if len(stops) > 1 else eos
