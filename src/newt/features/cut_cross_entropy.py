"""Cut cross-entropy: the loss straight from hidden states, without logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.plugins import PluginSection, has_plugin
from newt.config.section import Config, Problem
from newt.extend import Feature

OTHERS = ("liger_cross_entropy", "liger_fused_linear_cross_entropy")
INSTALL = "Run: pip uninstall -y cut-cross-entropy, then: pip install cut-cross-entropy."


class CutCrossEntropySettings(PluginSection):
    """The key of cut cross-entropy."""

    plugin = "CutCrossEntropyPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    cut_cross_entropy: bool | None = None
    """Compute the loss without logits. Default: on when the plugin is listed."""


class CutCrossEntropy(Feature):
    """Fills the loss."""

    name = "cut cross-entropy"
    Settings = (CutCrossEntropySettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On with the plugin, unless the key says no."""
        key = cfg[CutCrossEntropySettings].cut_cross_entropy
        return has_plugin(cfg, CutCrossEntropySettings.plugin) if key is None else key

    def check(self) -> Iterable[Problem]:
        """One computation of the loss, and the package."""
        for key in OTHERS:
            if self.cfg.value(key):
                keys = ("cut_cross_entropy", "plugins", key)
                yield self.problem(keys, f"cannot be used with {key}.", "Keep one of them.")
        if self.facts.known and "cut-cross-entropy" not in self.facts.packages:
            yield self.problem(("cut_cross_entropy", "plugins"), "needs the package cut-cross-entropy.", INSTALL)
