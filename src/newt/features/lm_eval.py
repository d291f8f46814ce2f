"""Benchmarks of the LM Evaluation Harness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import PositiveInt

from newt.config.plugins import PluginSection, has_plugin
from newt.config.section import Config, Problem
from newt.extend import Feature


class LmEvalSettings(PluginSection):
    """Keys of the benchmarks."""

    plugin = "LMEvalPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    lm_eval_tasks: tuple[str, ...] | None = None
    """Benchmarks: ``task``, or ``task:shots``."""
    lm_eval_batch_size: PositiveInt = 8
    """Batch size."""
    lm_eval_model: str | None = None
    """Model to measure. Default: ``hub_model_id``, else ``output_dir``."""
    lm_eval_post_train: bool = True
    """Measure after training."""


class LmEval(Feature):
    """Runs them."""

    name = "lm_eval"
    Settings = (LmEvalSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On with the plugin."""
        return has_plugin(cfg, LmEvalSettings.plugin)

    def check(self) -> Iterable[Problem]:
        """At least one benchmark, with a number of shots."""
        tasks = self.cfg[LmEvalSettings].lm_eval_tasks
        if not tasks:
            yield self.problem(("lm_eval_tasks", "plugins"), "is missing.", "List the benchmarks, such as gsm8k:5.")
        for task in tasks or ():
            name, colon, shots = task.partition(":")
            if not name or (colon and not shots.isdigit()):
                yield self.problem("lm_eval_tasks", f"{task!r} is not a task, or task:shots.")
