"""The largest micro-batch first: memory that does not suffice is known before the first step, not hours later."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from newt.support.errors import NewtError
from newt.training.batches import TOKENS, BatchSampler

HINT = "Lower micro_batch_size or sequence_len, or set gradient_checkpointing: true."


class Probe(TrainerCallback):  # type: ignore[misc]
    """Probes when the model stands as it is trained: on its device, wrapped, in its number format."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Run the probe."""
        probe(self.trainer)


def probe(trainer: Any) -> int:
    """Forward and backward pass of the largest micro-batch; nothing of the run changes.

    Weights get no step, gradients are dropped, buffers and random number states are put back.

    Args:
        trainer: a ``NewtTrainer`` in training.

    Returns:
        Tokens of that micro-batch with its padding; 0 without a probe: it could change a run of several processes, of
        streamed data, or of an optimizer that steps in the backward pass.

    Raises:
        NewtError: it does not fit into the memory.
    """
    model, sampler = trainer.model, trainer.setup.sampler
    steps_in_backward = any(getattr(p, "_post_accumulate_grad_hooks", None) for p in model.parameters())
    if not isinstance(sampler, BatchSampler) or trainer.args.world_size > 1 or steps_in_backward:
        return 0
    batch = _batch(trainer, widest(sampler))
    batch.pop(TOKENS, None)
    tokens = int(batch["input_ids"].numel())
    training, buffers = model.training, [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = trainer.args.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            model.train()
            inputs = trainer._prepare_inputs(batch)
            with trainer.compute_loss_context_manager():
                loss = trainer.setup.loss(model, inputs, 1)
            loss.backward()
        except torch.OutOfMemoryError as error:
            micro = f"{len(batch['input_ids'])} x {batch['input_ids'].shape[1]} tokens"
            raise NewtError(f"The largest micro-batch ({micro}) does not fit into the GPU's memory. {HINT}") from error
        finally:
            model.zero_grad(set_to_none=True)
            model.train(training)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
    return tokens


def widest(sampler: BatchSampler) -> int:
    """Number of the micro-batch that takes most memory with its padding.

    Args:
        sampler: of the training rows.
    """
    sizes = np.zeros(len(sampler), dtype=np.int64)
    for index in range(len(sampler)):
        tokens = [int(sampler.lengths[list(pick.rows)].sum()) for pick in sampler[index]]
        sizes[index] = max(tokens) * len(tokens)
    return int(sizes.argmax())


def _batch(trainer: Any, index: int) -> dict[str, Any]:
    loader = trainer.setup.inputs.train_loader(trainer.train_dataset, trainer.setup.sampler)
    made: dict[str, Any] = loader.collate_fn([loader.dataset[pick] for pick in trainer.setup.sampler[index]])
    return made
