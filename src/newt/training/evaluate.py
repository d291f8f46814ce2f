"""Evaluation that counts every trained token once: the sum of all losses over the number of all tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from newt.config.core import RunControl
from newt.extend import DataPlan, LossFn, TrainPlan
from newt.losses.causal import trained_tokens
from newt.training.batches import TOKENS, TokenData
from newt.training.inputs import Inputs


def sum_losses(
    model: Any, batches: Iterable[dict[str, Any]], loss: LossFn, to_device: Callable[[Any], Any]
) -> tuple[Tensor, Tensor]:
    """Sum of the losses of all trained tokens, and their number.

    The model is in evaluation mode meanwhile. The random number state is put back, so that a run computes the same
    whether it evaluates or not.

    Args:
        model: called by the loss.
        batches: collated batches.
        loss: the loss function.
        to_device: moves a batch.

    Returns:
        Two scalars, float64 and int64, on the CPU.
    """
    total, count = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
    with _evaluating(model), torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for batch in batches:
            batch.pop(TOKENS, None)
            count += trained_tokens(batch).cpu()
            total += loss(model, to_device(batch), 1).double().cpu()
    return total, count


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def further_metrics(trainer: Any) -> dict[str, float]:
    """What the plan's evaluations find; they leave mode and random numbers of the model as they were."""
    found: dict[str, float] = {}
    evaluations = trainer.setup.plan.evaluations
    if not evaluations:
        return found
    with _evaluating(trainer.model), torch.no_grad(), torch.random.fork_rng():
        for evaluate in evaluations:
            found.update(evaluate(trainer))
    return found


def evaluate_rows(
    model: Any, rows: TokenData, train_plan: TrainPlan, data_plan: DataPlan, tokenizer: Any
) -> tuple[float, int]:
    """Mean loss of a model over rows, with the loss and the number format that the plan trains with.

    Args:
        model: on the device where it computes.
        rows: token rows.
        train_plan: gives the loss.
        data_plan: gives packer and collator.
        tokenizer: gives the padding token.

    Returns:
        Mean loss of a trained token (nan without any), and the number of trained tokens.
    """
    loss = train_plan.loss.get()
    assert loss is not None, "the method fills the loss slot"
    inputs = Inputs(data_plan, tokenizer, train_plan.cfg[RunControl].seed)
    device = next(model.parameters()).device
    dtype = torch.bfloat16 if train_plan.args.get("bf16") else torch.float16
    mixed = bool(train_plan.args.get("bf16")) or (device.type == "cuda" and bool(train_plan.args.get("fp16")))
    with torch.autocast(device.type, dtype, enabled=mixed):
        total, count = sum_losses(model, inputs.eval_loader(rows), loss, lambda batch: _move(batch, device))
    return (total / count).item(), int(count)


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):  # a batch, or masks for each kind of layer
        return {key: _move(item, device) for key, item in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
