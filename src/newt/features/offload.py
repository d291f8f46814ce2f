"""Keeping activations or frozen weights in the CPU's memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from newt.config.parallel import Deepspeed, Fsdp
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class OffloadSettings(Section):
    """Keys of offloading."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    activation_offloading: bool | Literal["legacy", "disk", "hidden_states"] = False
    """Move saved activations to the CPU until the backward pass: ``true`` beside the computation, ``legacy`` without
    overlap, ``disk`` to files, ``hidden_states`` only the inputs of layers. Needs ``gradient_checkpointing``."""
    layer_offloading: bool | None = None
    """Keep frozen layers on the CPU and fetch each one when its turn comes."""
    ple_cpu_offload: bool | None = None
    """Keep per-layer embeddings on the CPU (with an adapter, on one device or with DDP)."""


class Offload(Feature):
    """Trades transfers for memory."""

    name = "offload"
    Settings = (OffloadSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        settings = cfg[OffloadSettings]
        return bool(settings.activation_offloading or settings.layer_offloading or settings.ple_cpu_offload)

    def check(self) -> Iterable[Problem]:
        """Activations are offloaded at the borders of checkpointed layers; weights only when they do not change."""
        settings = self.cfg[OffloadSettings]
        if settings.activation_offloading and not self.cfg.value("gradient_checkpointing"):
            message = "needs gradient checkpointing."
            yield self.problem("activation_offloading", message, "Set gradient_checkpointing: true.")
        for key in ("layer_offloading", "ple_cpu_offload"):
            if getattr(settings, key) and not self.cfg.value("adapter"):
                yield self.problem(key, "needs frozen weights, and everything is trained.", "Set adapter: lora.")
        if settings.ple_cpu_offload and self.cfg[Fsdp].on:
            yield self.problem(("ple_cpu_offload", "fsdp_config"), "cannot be used with FSDP.", "Remove one.")
        if settings.ple_cpu_offload and self.cfg[Deepspeed].deepspeed:
            yield self.problem(("ple_cpu_offload", "deepspeed"), "cannot be used with DeepSpeed.", "Remove one.")
