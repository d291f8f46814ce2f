"""How many steps a run has, and at which of them it logs, evaluates and saves. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from newt.config.core import Cadence
from newt.support.errors import NewtError


@dataclass(frozen=True)
class Steps:
    """The length of a run.

    Attributes:
        batches: micro-batches of one rank in an epoch.
        accumulation: micro-batches of an optimizer step.
        num_epochs: passes over the data.
        max_steps: optimizer steps, wins over ``num_epochs``.
    """

    batches: int
    accumulation: int
    num_epochs: float
    max_steps: int | None = None

    @property
    def per_epoch(self) -> int:
        """Optimizer steps of an epoch; the last one may have fewer micro-batches."""
        return -(-self.batches // self.accumulation)

    @property
    def total(self) -> int:
        """Optimizer steps of the run."""
        return self.max_steps or math.ceil(self.num_epochs * self.per_epoch)


def logging_steps(cadence: Cadence, steps: Steps) -> int:
    """Steps between log lines: 0.5 % of the run, between 1 and 10, unless given."""
    return cadence.logging_steps or min(max(int(0.005 * steps.total), 1), 10)


def cadence_arguments(cadence: Cadence, steps: Steps, has_eval: bool) -> dict[str, Any]:
    """The trainer arguments that say when to log, evaluate and save.

    Raises:
        NewtError: a number is not whole, or the best model is wanted at steps that are not evaluated.
    """
    log = logging_steps(cadence, steps)
    evaluate = _when(cadence.eval_strategy, cadence.eval_steps, cadence.evals_per_epoch, steps, "eval_steps")
    evaluate = evaluate if has_eval else ("no", None)
    if evaluate == ("steps", None):
        evaluate = ("steps", log)
    save = _when(cadence.save_strategy, cadence.save_steps, cadence.saves_per_epoch, steps, "save_steps")
    asked = cadence.save_strategy or cadence.save_steps or cadence.saves_per_epoch
    if cadence.load_best_model_at_end and not asked:
        save = evaluate
    if cadence.load_best_model_at_end:
        _check_best(evaluate, save)
    arguments = {"logging_steps": log, "eval_strategy": evaluate[0], "save_strategy": save[0]}
    if evaluate[1]:
        arguments["eval_steps"] = evaluate[1]
    if save[1]:
        arguments["save_steps"] = save[1]
    arguments["eval_on_start"] = evaluate[0] != "no"
    return arguments


def _when(
    strategy: str | None, number: float | None, per_epoch: int | None, steps: Steps, key: str
) -> tuple[str, int | None]:
    if strategy == "no" or per_epoch == 0:
        return "no", None
    if per_epoch == 1:
        return "epoch", None
    if per_epoch:
        return "steps", max(1, round(steps.per_epoch / per_epoch))
    if number is None:
        return strategy or "epoch", None
    if number < 1:
        return "steps", max(1, math.ceil(steps.total * number))
    if number != int(number):
        raise NewtError(f"{key}: {number} is not a whole number of steps. Write {round(number)}, or a share below 1.")
    return "steps", int(number)


def _check_best(evaluate: tuple[str, int | None], save: tuple[str, int | None]) -> None:
    together = evaluate[0] == save[0] and (evaluate[1] is None or (save[1] or 0) % evaluate[1] == 0)
    if save[0] == "best" or (together and evaluate[0] != "no"):
        return
    raise NewtError(
        f"load_best_model_at_end: every checkpoint must be evaluated, but evaluation is {_words(evaluate)} and saving "
        f"{_words(save)}. Give both the same steps, or set save_strategy: best."
    )


def _words(when: tuple[str, int | None]) -> str:
    return {"no": "off", "epoch": "after each epoch"}.get(when[0], f"every {when[1]} steps")
