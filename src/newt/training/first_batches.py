"""Some rows of the training data for an adapter that begins from them, before there is a trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from newt.config.core import Batch, RunControl
from newt.data.collate import PaddedCollator
from newt.extend import DataPlan, FirstBatches, TrainPlan
from newt.losses.causal import plain_causal_loss, trained_tokens
from newt.slots import Slot
from newt.training.batches import Pick, Picked, TokenData

NUMBER_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Arguments of the trainer -> what it computes in."""


def first_batches(
    plan: TrainPlan, data_plan: DataPlan, tokenizer: Any, data: TokenData, checkpoint: Path | None = None
) -> FirstBatches:
    """Training data for an adapter that begins from them.

    Rows stand alone, padded, whatever the run packs: each is then seen as it is, by every architecture.

    Args:
        plan: a train plan of its own: its next-token loss is replaced by the plain one, in which every layer is called.
        data_plan: changes rows when they are picked.
        tokenizer: gives the padding token.
        data: the training rows.
        checkpoint: folder that the run goes on from.
    """
    plan.cross_entropy = Slot("next-token loss")
    plan.cross_entropy.fill(plain_causal_loss, by="first batches")
    method_loss = plan.loss.get()
    assert method_loss is not None, "the method fills the loss slot"
    dtype = next((found for name, found in NUMBER_FORMATS.items() if plan.args.get(name)), None)

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        with _computing(batch["input_ids"].device.type, dtype):
            return method_loss(model, batch, trained_tokens(batch).clamp(min=1))

    return FirstBatches(lambda count: list(_batches(data_plan, tokenizer, data, count)), loss, checkpoint)


def _computing(device: str, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    return torch.autocast(device, dtype) if dtype is not None else nullcontext()


def _batches(plan: DataPlan, tokenizer: Any, data: TokenData, count: int) -> Iterator[dict[str, Tensor]]:
    pad = tokenizer.pad_token_id
    collate = PaddedCollator(tokenizer.eos_token_id if pad is None else pad)
    picked, batch = Picked(data, plan.transforms), plan.cfg[Batch]
    order = np.random.default_rng([plan.cfg[RunControl].seed, 0]).permutation(len(data))[:count].tolist()
    for rows in _grouped(order, data.lengths, batch.micro * batch.sequence_len):
        yield collate([picked[Pick((row,))][0] for row in rows])


def _grouped(order: Sequence[int], lengths: np.ndarray, most: int) -> Iterator[list[int]]:
    """Neighbours of an order together, up to so many tokens with padding."""
    group: list[int] = []
    for row in order:
        if group and max(int(lengths[other]) for other in (*group, row)) * (len(group) + 1) > most:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
