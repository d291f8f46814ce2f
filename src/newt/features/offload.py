"""Keeping activations or frozen weights in the CPU's memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from newt.config.core import RunControl
from newt.config.parallel import Deepspeed, Fsdp
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LossFn, TrainPlan

if TYPE_CHECKING:
    from newt.training.offload import Mode

OLDER: Mapping[Any, bool | str] = {"offload": True, "offload_disk": "disk"}
"""Older values of ``gradient_checkpointing`` -> those of ``activation_offloading``."""

MODES: Mapping[Any, Mode] = {True: "overlap", "legacy": "wait", "disk": "disk", "hidden_states": "overlap"}
"""Values of ``activation_offloading`` -> how the tensors are moved."""


class OffloadSettings(Section):
    """Keys of offloading."""

    coming: ClassVar[frozenset[str]] = frozenset({"layer_offloading", "ple_cpu_offload"})

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
        older = cfg.value("gradient_checkpointing") in OLDER
        return bool(older or settings.activation_offloading or settings.layer_offloading or settings.ple_cpu_offload)

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

    def plan_train(self, plan: TrainPlan) -> None:
        """Run the forward pass so that what is saved waits elsewhere."""
        value = self.cfg[OffloadSettings].activation_offloading or OLDER.get(self.cfg.value("gradient_checkpointing"))
        if not value:
            return
        folder = Path(self.cfg[RunControl].output_dir).expanduser()

        @cache
        def store() -> Any:
            from newt.training.offload import make_store

            return make_store(MODES[value], folder)

        def wrap(loss: LossFn) -> LossFn:
            from newt.training.offload import offloaded

            return offloaded(loss, store, hidden_only=value == "hidden_states")

        plan.loss.wrap(wrap, by=self.name)
