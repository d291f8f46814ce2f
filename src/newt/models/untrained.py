"""Embedding rows that pretraining never changed: give them a sensible beginning, and see that they are trained."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from newt.models.freezing import frozen_rows
from newt.support.errors import NewtError

BLOCK = 8192
"""Rows that are added up at once: a float32 copy of a whole embedding can take gigabytes."""
FLAT = 1e-3
"""A row is untrained when its values differ by less than this part of what they differ by in a usual row."""


def fix_untrained_rows(model: Any, ids: Sequence[int], notes: list[str]) -> None:
    """Let rows of the embedding and of the output layer begin as the mean of the trained rows.

    Args:
        model: a transformers model, changed in place.
        ids: token ids of the rows.
        notes: gets a line.

    Raises:
        NewtError: an id without a row, or no trained row.
    """
    usual: set[int] = set()
    for name, weight in _weights(model):
        beyond = [number for number in ids if number >= weight.shape[0]]
        if beyond:
            raise NewtError(f"fix_untrained_tokens: there is no token {beyond[0]}: {name} has {weight.shape[0]} rows")
        trained = ~untrained_rows(weight.data)
        usual |= {number for number in ids if trained[number]}
        trained[list(ids)] = False
        if not trained.any():
            raise NewtError(f"fix_untrained_tokens: {name} has no trained row to take the mean of")
        weight.data[list(ids)] = _mean(weight.data, trained).to(weight)
    text = f"the embeddings of {len(ids)} tokens begin as the mean of the trained ones"
    if usual:
        text += f" (of these, {', '.join(map(str, sorted(usual)[:5]))} looked trained)"
    notes.append(text)


def untrained_rows(weight: Tensor) -> Tensor:
    """Rows that are zero or nearly constant, bool (rows,), of a weight (rows, hidden)."""
    spread = (weight.amax(1) - weight.amin(1)).float()
    return spread <= FLAT * spread.median()


def trained_ids(end: Any) -> Collection[int] | None:
    """Token ids whose rows of an embedding or output layer are trained and saved; None for all of them."""
    if hasattr(end, "token_adapter"):
        return frozenset(number for rows in end.token_adapter.token_indices.values() for number in rows)
    trained = [parameter for parameter in end.parameters() if parameter.requires_grad]
    masks = [mask for mask in map(frozen_rows, trained) if mask is not None]
    if masks:  # of a weight, which is the only parameter of these modules that has rows
        return frozenset((~masks[0]).nonzero().flatten().tolist())
    return None if trained else frozenset()


def refuse_unsaved_rows(model: Any, ids: Sequence[int]) -> None:
    """Rows that were changed in the base model must be saved with the adapter, or it would meet others later.

    Raises:
        NewtError: names the key to set.
    """
    if not hasattr(model, "peft_config"):
        return
    base = model.get_base_model()
    for name, end in _ends(base):
        saved = None if hasattr(end, "modules_to_save") else trained_ids(end) or frozenset()
        lost = [] if saved is None else [number for number in ids if number not in saved]
        if lost:
            raise NewtError(
                f"fix_untrained_tokens: the row of token {lost[0]} in {name} would not be saved with the adapter. "
                f"Add it to peft_trainable_token_indices, or add {name} to lora_modules_to_save"
            )


def _ends(model: Any) -> Iterator[tuple[str, Any]]:
    """The embedding, and the output layer if it has a weight of its own."""
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    yield "embed_tokens", first
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if last is not None and not (tied or last.weight is first.weight):
        yield "lm_head", last


def _weights(model: Any) -> Iterator[tuple[str, Any]]:
    for name, end in _ends(model):
        yield name, end.weight


def _mean(weight: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen rows, float32 (hidden,)."""
    total = torch.zeros(weight.shape[1], device=weight.device)
    for start in range(0, weight.shape[0], BLOCK):
        total += weight[start : start + BLOCK][chosen[start : start + BLOCK]].sum(0, dtype=torch.float32)
    return total / chosen.sum()
