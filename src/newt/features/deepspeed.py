"""DeepSpeed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from newt.config.parallel import Deepspeed as DeepspeedSettings
from newt.config.section import Config, Problem
from newt.extend import Feature

OPTIMIZERS = ("muon", "q_galore_adamw8bit", "polora")
"""They keep state for whole matrices, which DeepSpeed cuts into pieces."""


class Deepspeed(Feature):
    """Runs the model under DeepSpeed."""

    name = "deepspeed"
    Settings = (DeepspeedSettings,)
    off = "deepspeed is not set"
    switches = ("deepspeed",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when its config is given."""
        return bool(cfg[DeepspeedSettings].deepspeed)

    def check(self) -> Iterable[Problem]:
        """Its config can be read, and nothing else shards the model."""
        if wrong := self._unreadable():
            yield self.problem("deepspeed", wrong)
        for key in ("fsdp_config", "fsdp"):
            if self.cfg.value(key):
                yield self.problem(("deepspeed", key), f"cannot be used with {key}.", "Remove one.")
                break
        optimizer = self.cfg.value("optimizer")
        if optimizer in OPTIMIZERS or str(optimizer).startswith("flash_"):
            yield self.problem(("optimizer", "deepspeed"), f"{optimizer} cannot be used with DeepSpeed.", "Use FSDP 2.")
        if self.facts.known and "deepspeed" not in self.facts.packages:
            yield self.problem("deepspeed", "needs the package deepspeed.", "Install it.")

    def _unreadable(self) -> str:
        """Why its config cannot be read, or nothing."""
        value = self.cfg[DeepspeedSettings].deepspeed
        if not isinstance(value, str) or not self.facts.known:
            return ""
        path = Path(value).expanduser()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            return f"there is no file {path}."
        except ValueError as error:
            return f"{path} is not valid JSON: {error}."
        return "" if isinstance(content, dict) else f"{path} does not hold a mapping."
