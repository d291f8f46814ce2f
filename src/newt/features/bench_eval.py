"""Multiple-choice questions at each evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.core import Cadence
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class BenchEvalSettings(Section):
    """Keys of the questions."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    do_bench_eval: bool | None = None
    """Ask multiple-choice questions at each evaluation."""
    bench_dataset: str | None = None
    """``mmlu-zs``, ``mmlu-fs``, or a file of a Hub dataset."""
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
        """It says when."""
        cadence = self.cfg[Cadence]
        if not (cadence.eval_steps or cadence.evals_per_epoch):
            yield self.problem("do_bench_eval", "needs to know when.", "Set eval_steps or evals_per_epoch.")
