"""How much memory the run took, and what to do when it does not suffice."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from newt.config.core import Batch
from newt.config.section import Config
from newt.support.errors import NewtError


class DoesNotFitError(NewtError):
    """Training does not fit into the memory of the device.

    Attributes:
        rows_follow: the rows of a step depend on ``micro_batch_size``.
    """

    def __init__(self, message: str, *, rows_follow: bool = False) -> None:
        self.rows_follow = rows_follow
        super().__init__(message)


def advice(cfg: Config) -> str:
    """Which keys to change, and to what: first those that change nothing of what is trained."""
    batch, ways = cfg[Batch], []
    if batch.micro > 1:
        fewer = batch.split(batch.micro // 2 if batch.micro % 2 == 0 else 1)
        steps = "" if batch.batch_size else f" and gradient_accumulation_steps: {fewer.accumulation}"
        ways.append(f"set micro_batch_size: {fewer.micro}{steps} (the same step)")
        if batch.micro % 2 == 0 and not batch.auto_find_batch_size:
            ways.append("set auto_find_batch_size: true")
    checkpointing = cfg.value("gradient_checkpointing")
    if not checkpointing:
        ways.append("set gradient_checkpointing: true")
    elif checkpointing is True and not cfg.value("activation_offloading"):
        ways.append("set activation_offloading: true")
    ways.append(f"lower sequence_len ({batch.sequence_len})")
    text = ", or ".join(ways)
    return f"{text[0].upper()}{text[1:]}."


@contextmanager
def evaluation_fits() -> Iterator[None]:
    """Say which key the memory of an evaluation depends on.

    Raises:
        NewtError: it does not suffice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        message = "The evaluation does not fit into the memory. Lower eval_batch_size (default: micro_batch_size)."
        raise NewtError(message) from error


def release() -> None:
    """Give the memory of what nobody holds any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_memory(device: torch.device) -> int:
    """Most bytes that were in use at one time: of the GPU's memory, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
