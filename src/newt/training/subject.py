"""What a self-test tries: a trainer, a few short rows of its data, and the loss and gradients that they give."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from newt.data.collate import PaddedCollator
from newt.data.rows import IGNORE
from newt.extend import LossFn
from newt.training.batches import TOKENS, Collate
from newt.training.trainer import NewtTrainer

Row = Mapping[str, np.ndarray]

LENGTHS = (24, 18, 14, 11)
"""Tokens of the rows that are tried: of different lengths, so that a mean of means differs from the mean."""

SCALES = (8, 4, 2)
"""Rows are so many times longer where the time allows it: the longest that fits is taken."""

SECONDS, PASSES = 10.0, 12
"""A self-test may take about so long, and makes about so many passes forward and backward."""

BEFORE = 4
"""Tokens before the first trained one that a shortened row keeps."""

WATCHED = 50_000_000
"""Gradients of about so many parameters are compared, spread over the model: more of them tell nothing new."""

FULL, HALF = (1e-5, 1e-4), (2e-2, 2e-1)
"""Largest relative difference of loss and gradients: computed in 32 and in 16 bits.

In bfloat16 another order of sums alone makes 5e-3 and 9e-2 in a model of 30 layers; the faults that are looked for,
such as a mean of means, make more.
"""


@dataclass(frozen=True)
class Result:
    """What came of a try.

    Attributes:
        name: what was tried.
        passed: None when it was left out.
        loss: relative difference of the loss, None where nothing was measured.
        gradient: relative difference of the gradients.
        tolerance: largest difference of loss and of gradients that passes.
        note: why it was left out, or what was found.
    """

    name: str
    passed: bool | None
    loss: float | None = None
    gradient: float | None = None
    tolerance: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """Loss and gradients of the same rows."""

    loss: float
    gradients: Mapping[str, Tensor]


class ShortRows:
    """Token rows in memory."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.lengths = np.array([len(row["input_ids"]) for row in rows], np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


def short_rows(data: Any, scale: int = 1, looked_at: int = 500) -> list[Row]:
    """A few rows of the data, cut to :data:`LENGTHS` around their first trained token; each trains another number.

    Args:
        data: token rows with ``lengths``.
        scale: the rows are so many times longer than :data:`LENGTHS`.
        looked_at: how many rows are looked at, at most.
    """
    found: list[Row] = []
    for number in range(0, len(data), max(1, len(data) // looked_at)):
        row = data[number]
        labels = np.asarray(row["labels"])
        trained = np.flatnonzero(labels[1:] != IGNORE)
        if not len(trained):
            continue
        begin = max(0, int(trained[0]) + 1 - BEFORE)
        part = slice(begin, begin + LENGTHS[len(found)] * scale)
        found.append({"input_ids": np.asarray(row["input_ids"])[part], "labels": labels[part].copy()})
        if len(found) == len(LENGTHS):
            break
    return _unequal(found)


def _unequal(rows: list[Row]) -> list[Row]:
    """Rows that all train equally many tokens cannot tell a mean of means: let one train fewer."""
    counts = [int((row["labels"][1:] != IGNORE).sum()) for row in rows]
    if len(rows) > 1 and len(set(counts)) == 1 and counts[0] > 1:
        labels = rows[0]["labels"]
        labels[int(np.flatnonzero(labels != IGNORE)[-1])] = IGNORE
    return rows


class Subject:
    """A trainer and the rows on which it is tried.

    Args:
        trainer: of the run; its model is on its device afterwards, without dropout and without compiled layers.
        rows: of :func:`short_rows`.
    """

    def __init__(self, trainer: NewtTrainer, rows: Sequence[Row]) -> None:
        self.trainer = trainer
        self.model = trainer._evaluated_model()
        self.model.train()
        without_dropout(self.model)
        self.compiled = set_aside_compiled(self.model)
        self.watched = _spread(self.model)
        self.dtype = _computes_in(trainer)
        self.take(rows)

    def take(self, rows: Sequence[Row]) -> None:
        """Try these rows from now on."""
        self.rows = rows
        self.reference = self.measure(self.separate([[row] for row in rows]))

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row["input_ids"]) for row in self.rows)

    @property
    def tolerance(self) -> tuple[float, float]:
        """Of loss and gradients."""
        return FULL if self.dtype == torch.float32 else HALF

    def separate(self, *batches: Sequence[Sequence[Row]]) -> list[dict[str, Any]]:
        """Batches of samples, each in a row of its own."""
        inputs = self.trainer.setup.inputs
        if inputs.plan.collate:
            collate = inputs.collate(packed=False, micro=1, length=self.tokens)
        else:
            pad = inputs.tokenizer.pad_token_id
            collate = Collate(PaddedCollator(inputs.tokenizer.eos_token_id if pad is None else pad), packed=False)
        return [collate([list(samples) for samples in batch]) for batch in batches]

    def together(self, rows: Sequence[Row], *, packed: bool) -> list[dict[str, Any]]:
        """One batch of all rows in one row, as the run has them."""
        inputs = self.trainer.setup.inputs
        collate = inputs.collate(packed=packed, micro=1, length=self.tokens + BEFORE)
        return [collate([list(rows)] if packed else [[row] for row in rows])]

    def measure(self, batches: Sequence[dict[str, Any]], loss: LossFn | None = None) -> Measured:
        """Loss and gradients of an optimizer step.

        Args:
            batches: its micro-batches.
            loss: default: that of the run.
        """
        self.model.zero_grad(set_to_none=True)
        total = 0.0
        for value in self._losses(batches, loss or self._loss):
            torch.autograd.backward(value)
            total += float(value.detach())
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for name, p in self.watched.items()
        }
        self.model.zero_grad(set_to_none=True)
        return Measured(total, gradients)

    def value(self, batches: Sequence[dict[str, Any]]) -> float:
        """The run's loss of an optimizer step, without gradients."""
        with torch.no_grad():
            return sum(float(value) for value in self._losses(batches, self._loss))

    def _losses(self, batches: Sequence[dict[str, Any]], loss: LossFn) -> Iterator[Tensor]:
        trainer = self.trainer
        items = sum((trainer.count_items(batch) for batch in batches), torch.zeros((), dtype=torch.int64))
        items = items.clamp(min=1).to(trainer.args.device)
        for batch in batches:
            inputs = trainer._prepare_inputs({key: value for key, value in batch.items() if key != TOKENS})
            yield loss(self.model, inputs, items)
        trainer.loss_sum = None

    def _loss(self, model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int) -> Tensor:
        """The run's own loss."""
        value: Tensor = self.trainer.compute_loss(model, dict(batch), num_items_in_batch=num_items)
        return value

    def compare(self, name: str, found: Measured, note: str = "", wanted: Measured | None = None) -> Result:
        """The result of a try: what was found against what the plain way gives."""
        wanted = wanted or self.reference
        loss = abs(found.loss - wanted.loss) / max(abs(wanted.loss), 1e-12)
        gradient = difference(wanted.gradients, found.gradients)
        passed = loss <= self.tolerance[0] and gradient <= self.tolerance[1]
        return Result(name, passed, loss, gradient, self.tolerance, note)


def lengthen(subject: Subject, data: Any) -> None:
    """Let a subject take the longest rows that :data:`SECONDS` allow, by the time that a pass over its own takes.

    Args:
        subject: has rows of scale 1.
        data: token rows with ``lengths``.
    """
    # Timed here, as the pass that the subject began with also loads kernels.
    begin = time.perf_counter()
    subject.take(subject.rows)
    fits = SECONDS / PASSES / max(time.perf_counter() - begin, 1e-6)
    scale = next((scale for scale in SCALES if scale <= fits), None)
    if scale:
        subject.take(short_rows(data, scale))


def difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Length of the difference of two sets of gradients over the length of the first; infinite where one is no number.

    Args:
        wanted: gradient by name.
        found: of the same names and shapes.
    """
    apart = sum(float((found[name].float() - value.float()).pow(2).sum()) for name, value in wanted.items())
    length = sum(float(value.float().pow(2).sum()) for value in wanted.values())
    if not math.isfinite(apart + length):
        return math.inf
    return math.sqrt(apart / length) if length else math.sqrt(apart)


def without_dropout(model: nn.Module) -> None:
    """Set every chance of dropping something to zero."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in vars(part).items():
            if isinstance(value, float) and name.endswith(("dropout", "dropout_p", "drop")):
                setattr(part, name, 0.0)


def stir(model: nn.Module, size: float = 1e-2) -> None:
    """Change what an adapter trains: as it begins, half of its gradients are zero and it changes nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator) * size
                parameter.add_(noise.to(parameter.device, parameter.dtype))


def _spread(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters over the whole depth, of about :data:`WATCHED` numbers in all."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    share = max(1, math.ceil(sum(p.numel() for p in trained.values()) / WATCHED))
    names = list(trained)
    return {name: trained[name] for name in names[::share]}


def _computes_in(trainer: NewtTrainer) -> torch.dtype:
    """The type of the model's products."""
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(str(trainer.accelerator.mixed_precision))
    types = {p.dtype for p in trainer.model.parameters() if p.is_floating_point()}
    return mixed or next((kind for kind in (torch.bfloat16, torch.float16) if kind in types), torch.float32)


def set_aside_compiled(model: nn.Module) -> dict[nn.Module, Any]:
    """Let compiled modules run as they are written; gives what puts it back."""
    found = {part: part._compiled_call_impl for part in model.modules() if part._compiled_call_impl is not None}
    for part in found:
        part._compiled_call_impl = None
    return found
