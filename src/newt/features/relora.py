"""ReLoRA: merge the adapter into the model every so many steps and begin a new one. https://arxiv.org/abs/2307.05695"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class ReloraSettings(Section):
    """Keys of ReLoRA."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    relora: bool | None = None
    """Merge the adapter into the model at each restart (``jagged_restart_steps``) and begin a new one."""
    relora_prune_ratio: float | None = Field(default=None, ge=0, le=1)
    """Share of the optimizer's state that is forgotten at a restart. Default 0.9 by magnitude."""
    relora_prune_method: Literal["magnitude", "random", "reset"] = "magnitude"
    """What is forgotten: the smallest values, random ones, or nearly all."""
    relora_cpu_offload: bool | None = None
    """Merge on the CPU, to save GPU memory."""


class Relora(Feature):
    """Restarts of the adapter."""

    name = "relora"
    Settings = (ReloraSettings,)
    off = "relora is not on"
    switches = ("relora",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[ReloraSettings].relora)

    def check(self) -> Iterable[Problem]:
        """A LoRA adapter, restarts, and nothing that shards the model or fixes the schedule."""
        value = self.cfg.value
        if value("adapter") not in ("lora", "qlora"):
            yield self.problem(("relora", "adapter"), "needs a LoRA adapter.", "Set adapter: lora.")
        if not value("jagged_restart_steps"):
            yield self.problem(("relora", "jagged_restart_steps"), "needs jagged_restart_steps.", "For example 200.")
        for key in self.sharding():
            yield self.problem(("relora", key), f"cannot be used with {key}.", "Remove one.")
        if value("lr_scheduler") == "one_cycle":
            yield self.problem(
                ("relora", "lr_scheduler"), "cannot be used with one_cycle.", "Use lr_scheduler: cosine."
            )
        if value("flash_attn_fuse_mlp"):
            yield self.problem(
                ("relora", "flash_attn_fuse_mlp"), "cannot be used with flash_attn_fuse_mlp.", "Remove one."
            )

    def sharding(self) -> list[str]:
        """Keys that shard the model."""
        return [key for key in ("fsdp", "fsdp_config", "deepspeed") if self.cfg.value(key)]
