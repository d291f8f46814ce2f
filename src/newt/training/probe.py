"""The largest micro-batch first: memory that does not suffice is known before the first step, not hours later."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from newt.config.core import Batch
from newt.training.batches import TOKENS, BatchSampler
from newt.training.combined import Layerwise
from newt.training.memory import DoesNotFitError, advice

LONG_RUN = 1000
"""Micro-batches of a run on a CPU from which on the probe is at most about half a percent of it."""


class Probe(TrainerCallback):  # type: ignore[misc]
    """Probes when the model stands as it is trained: on its device, wrapped, in its number format.

    Once before the first step, and once after it: then the optimizer's state is there, and takes its memory.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.again = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Run the probe, where it costs little."""
        if not worthwhile(self.trainer, state.max_steps):
            return
        probe(self.trainer)
        self.again = not inner(self.trainer.optimizer).state

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Run it once more beside the optimizer's state."""
        if self.again:
            self.again = False
            with self.trainer.stopwatch.pause():
                probe(self.trainer)


def worthwhile(trainer: Any, steps: int) -> bool:
    """Whether a probe costs little: on a GPU, where its answer decides about the micro-batch, or in a long run.

    Args:
        trainer: a ``NewtTrainer``.
        steps: optimizer steps of the run.
    """
    batch = trainer.setup.plan.cfg[Batch]
    long_run = steps * batch.accumulation >= LONG_RUN
    return bool(trainer.args.device.type == "cuda" or batch.auto_find_batch_size or long_run)


def probe(trainer: Any) -> int:
    """Forward and backward pass of the largest micro-batch; nothing of the run changes.

    Weights get no step, gradients are dropped, buffers and random number states are put back.

    Args:
        trainer: a ``NewtTrainer`` in training.

    Returns:
        Tokens of that micro-batch with its padding; 0 without a probe: it could change a run of several processes, of
        streamed data, or of an optimizer of a package that steps in the backward pass.

    Raises:
        DoesNotFitError: it does not fit into the memory.
    """
    model, sampler = trainer.model, trainer.setup.sampler
    hooked = any(getattr(p, "_post_accumulate_grad_hooks", None) for p in model.parameters())
    steps_in_backward = hooked and not isinstance(inner(trainer.optimizer), Layerwise)
    if not isinstance(sampler, BatchSampler) or trainer.args.world_size > 1 or steps_in_backward:
        return 0
    with _as_before(trainer):
        batch = _batch(trainer, widest(sampler, one_row=bool(trainer.setup.inputs.plan.flatten.get())))
        batch.pop(TOKENS, None)
        tokens = int(batch["input_ids"].numel())
        try:
            _try(trainer, batch)
        except torch.OutOfMemoryError as error:
            micro = f"{len(batch['input_ids'])} x {batch['input_ids'].shape[1]} tokens"
            cfg, rows_follow = trainer.setup.plan.cfg, trainer.setup.inputs.rows_follow_micro
            message = f"The largest micro-batch ({micro}) does not fit into the memory. {advice(cfg)}"
            raise DoesNotFitError(message, rows_follow=rows_follow) from error
    return tokens


def _try(trainer: Any, batch: dict[str, Any]) -> None:
    trainer.model.train()
    inputs = trainer._prepare_inputs(batch)
    with trainer.compute_loss_context_manager():
        loss = trainer.setup.loss(trainer.model, inputs, 1)
    loss.backward()


@contextmanager
def _as_before(trainer: Any) -> Iterator[None]:
    """Afterwards the run is as it was: mode, buffers, gradients, random numbers, and no weight was updated."""
    model, device, optimizer = trainer.model, trainer.args.device, inner(trainer.optimizer)
    training, buffers = model.training, [(buffer, buffer.clone()) for buffer in model.buffers()]
    drawn = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if isinstance(optimizer, Layerwise):
                optimizer.trying = True
            yield
        finally:
            if isinstance(optimizer, Layerwise):
                optimizer.trying = False
            model.zero_grad(set_to_none=True)
            model.train(training)
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


def inner(optimizer: Any) -> Any:
    """The optimizer in the wrapper of accelerate."""
    return getattr(optimizer, "optimizer", optimizer)


def widest(sampler: BatchSampler, *, one_row: bool = False) -> int:
    """Number of the micro-batch that takes most memory with its padding.

    Args:
        sampler: of the training rows, for one process.
        one_row: the samples of a micro-batch stand in one row, without padding between them.
    """
    lengths = sampler.sample_lengths[: len(sampler) * sampler.micro]
    filled = np.pad(lengths, (0, -len(lengths) % sampler.micro)).reshape(-1, sampler.micro)
    padded = filled.max(axis=1) * np.count_nonzero(filled, axis=1)
    return int((filled.sum(axis=1) if one_row else padded).argmax())


def _batch(trainer: Any, index: int) -> dict[str, Any]:
    loader = trainer.setup.inputs.train_loader(trainer.train_dataset, trainer.setup.sampler)
    made: dict[str, Any] = loader.collate_fn([loader.dataset[pick] for pick in trainer.setup.sampler[index]])
    return made
