"""LoRA+: the B matrices of an adapter learn faster than its A matrices. https://arxiv.org/abs/2402.12354"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class LoraPlusSettings(Section):
    """Keys of LoRA+."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    loraplus_lr_ratio: float | None = Field(default=None, gt=0)
    """Learning rate of the B matrices, as a multiple of ``learning_rate``. 16 is a good start."""
    loraplus_lr_embedding: float = Field(default=1e-6, gt=0)
    """Learning rate of embeddings that have an adapter."""


class LoraPlus(Feature):
    """Parameter groups with learning rates of their own."""

    name = "loraplus"
    Settings = (LoraPlusSettings,)
    off = "loraplus_lr_ratio is not set"
    switches = ("loraplus_lr_ratio",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when there is a ratio."""
        return cfg[LoraPlusSettings].loraplus_lr_ratio is not None

    def check(self) -> Iterable[Problem]:
        """An adapter; that ``lr_groups`` is another rule, its own Part says."""
        if not self.cfg.value("adapter"):
            yield self.problem(("loraplus_lr_ratio", "adapter"), "needs an adapter.", "Set adapter: lora.")
