"""Multiple-choice questions at each evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from newt.config.core import Cadence, Data
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

NAMES = ("mmlu-zs", "mmlu-fs", "mmlu")


class BenchEvalSettings(Section):
    """Keys of the questions."""

    do_bench_eval: bool | None = None
    """Ask multiple-choice questions at each evaluation."""
    bench_dataset: str | None = None
    """``mmlu-zs``, ``mmlu-fs``, a JSON file, or one of a Hub dataset (``org/name/file.json``). Default: mmlu-zs.

    Rows have ``input``, which ends where the letter comes, ``output``, that letter, and perhaps ``subject``."""
    bench_split: str | None = None
    """Split. Default: eval."""


class BenchEval(Feature):
    """Asks them."""

    name = "bench evaluation"
    Settings = (BenchEvalSettings,)
    off = "do_bench_eval is not on"
    switches = ("do_bench_eval",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[BenchEvalSettings].do_bench_eval)

    def check(self) -> Iterable[Problem]:
        """It says when. Without evaluation rows only the questions are asked."""
        cadence = self.cfg[Cadence]
        if not (cadence.eval_steps or cadence.evals_per_epoch):
            yield self.problem("do_bench_eval", "needs to know when.", "Set eval_steps or evals_per_epoch.")
        elif not self.cfg[Data].has_eval:
            message = "there are no evaluation rows: the questions are all that is evaluated."
            yield self.problem("do_bench_eval", message, "For a loss too set val_set_size.", kind="warning")
        source = self.cfg[BenchEvalSettings].bench_dataset or NAMES[0]
        local = source.startswith(("/", ".", "~")) or source.count("/") < 2
        if source not in NAMES and local and not Path(source).expanduser().is_file():
            hint = f"Name one of {', '.join(NAMES)}, a JSON file, or org/name/file on the Hub."
            yield self.problem("bench_dataset", f"{source} was not found.", hint)

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the evaluation."""
        made: list[Any] = []

        def evaluate(trainer: Any) -> dict[str, float]:
            from newt.training.bench import Bench

            settings = self.cfg[BenchEvalSettings]
            if not made:
                made.append(Bench(settings.bench_dataset or NAMES[0], settings.bench_split or "eval"))
            found: dict[str, float] = made[0](trainer)
            return found

        plan.evaluations.append(evaluate)
