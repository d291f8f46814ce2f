"""Jagged restarts: the learning rates of any schedule, scaled down before each restart and up again after it."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LRScheduler


def restart_scale(step: int, period: int, warmup: int, anneal: int, minimum: float) -> float:
    """Factor of the learning rate at a step.

    With ``p`` = step mod period and ``t`` = ``p / warmup`` in the first ``warmup`` steps, ``(period - p) / anneal`` in
    the last ``anneal - 1`` and 1 between them, it is ``minimum + (1 - minimum) t``. Before the first restart there is
    nothing to rise from, so that the schedule's own warm-up is left alone.

    Args:
        step: optimizer steps that are done.
        period: steps from one restart to the next.
        warmup: steps of the rise.
        anneal: steps of the fall.
        minimum: the factor at a restart.
    """
    if step < period - anneal:
        return 1.0
    place = step % period
    part = 1.0
    if place < warmup:
        part = place / warmup
    elif place > period - anneal:
        part = (period - place) / anneal
    return minimum + (1 - minimum) * part


class JaggedRestarts(LRScheduler):
    """A schedule with restarts around it.

    Args:
        inner: the schedule that is scaled.
        period: steps from one restart to the next.
        warmup: steps of the rise after it.
        anneal: steps of the fall before it.
        minimum: the factor at a restart.
    """

    def __init__(self, inner: Any, *, period: int, warmup: int, anneal: int, minimum: float) -> None:
        """Scale the first learning rate; the base class would step the schedule once more."""
        self.inner = inner
        self.optimizer = inner.optimizer
        self.base_lrs = list(inner.base_lrs)
        self.last_epoch = inner.last_epoch
        self._numbers = (period, warmup, anneal, minimum)
        self._apply()

    def step(self, epoch: int | None = None) -> None:
        """Go one step on."""
        # Schedules that continue from the current rate must find their own, not the scaled one.
        for group, rate in zip(self.optimizer.param_groups, self.inner.get_last_lr(), strict=True):
            group["lr"] = rate
        self.inner.step()
        self.last_epoch += 1
        self._apply()

    def _apply(self) -> None:
        scale = restart_scale(self.last_epoch, *self._numbers)
        self._last_lr = [rate * scale for rate in self.inner.get_last_lr()]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[Any]:
        """The scaled rates of this step."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """The step and the state of the schedule inside; the optimizer keeps its own."""
        return {"last_epoch": self.last_epoch, "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a stored step."""
        self.last_epoch = state_dict["last_epoch"]
        self.inner.load_state_dict(state_dict["inner"])
        self._apply()
