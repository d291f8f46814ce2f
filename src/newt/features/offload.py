"""Keeping activations or frozen weights in the CPU's memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from newt.config.core import RunControl
from newt.config.parallel import Deepspeed, Fsdp
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan, LossFn, TrainPlan

if TYPE_CHECKING:
    from newt.models.cpu_weights import LayerWeights
    from newt.training.offload import Mode

OLDER: Mapping[Any, bool | str] = {"offload": True, "offload_disk": "disk"}
"""Older values of ``gradient_checkpointing`` -> those of ``activation_offloading``."""

MODES: Mapping[Any, Mode] = {True: "overlap", "legacy": "wait", "disk": "disk", "hidden_states": "overlap"}
"""Values of ``activation_offloading`` -> how the tensors are moved."""

FREEZING = ("adapter", "unfrozen_parameters")
"""Keys that leave weights frozen for the whole run."""

NOT_WITH_LAYERS: Mapping[str, str] = {
    "relora": "it changes the frozen weights.",
    "lisa_n_layers": "it trains other layers every few steps.",
    "load_in_4bit": "quantized weights are not moved yet.",
    "load_in_8bit": "quantized weights are not moved yet.",
    "torch_compile": "compiled layers take their weights from where they were.",
}
"""Key that is not used with ``layer_offloading`` -> why."""

OTHER_LOSS = ("rl", "reward_model", "process_reward_model")
"""Keys of methods whose forward pass is their own."""


class OffloadSettings(Section):
    """Keys of offloading."""

    activation_offloading: bool | Literal["legacy", "disk", "hidden_states"] = False
    """Move saved activations to the CPU until the backward pass: ``true`` beside the computation (with an adapter
    instead of computing layers again), ``legacy`` without overlap, ``disk`` to files, ``hidden_states`` only the inputs
    of layers. Needs ``gradient_checkpointing``."""
    layer_offloading: bool | None = None
    """Keep the frozen weights of layers on the CPU and fetch each layer before its turn comes."""
    ple_cpu_offload: bool | None = None
    """Keep per-layer embeddings on the CPU (with an adapter, on one device or with DDP)."""


class Offload(Feature):
    """Trades transfers for memory."""

    name = "offload"
    Settings = (OffloadSettings,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make it for a run; the layers whose weights come and go are known once the model is loaded."""
        super().__init__(*args, **kwargs)
        self.layers: LayerWeights | None = None

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        settings = cfg[OffloadSettings]
        older = cfg.value("gradient_checkpointing") in OLDER
        return bool(older or settings.activation_offloading or settings.layer_offloading or settings.ple_cpu_offload)

    def check(self) -> Iterable[Problem]:
        """Activations are offloaded at the borders of checkpointed layers; weights only when they do not change."""
        settings, older = self.cfg[OffloadSettings], OLDER.get(self.cfg.value("gradient_checkpointing"))
        value = settings.activation_offloading
        if value and not self.cfg.value("gradient_checkpointing"):
            message = "needs gradient checkpointing."
            yield self.problem("activation_offloading", message, "Set gradient_checkpointing: true.")
        if older and value not in (False, older):
            keys = ("gradient_checkpointing", "activation_offloading")
            message = f"{self.cfg.value(keys[0])} asks for another way than activation_offloading: {_said(value)}."
            yield self.problem(keys, message, "Set gradient_checkpointing: true.")
        yield from self._check_weights()
        yield from self._check_method()

    def _check_weights(self) -> Iterable[Problem]:
        settings, fsdp, deepspeed = self.cfg[OffloadSettings], self.cfg[Fsdp].on, self.cfg[Deepspeed].deepspeed
        for key in ("layer_offloading", "ple_cpu_offload"):
            if not getattr(settings, key):
                continue
            if not any(self.cfg.value(other) for other in FREEZING):
                yield self.problem(key, "needs frozen weights, and everything is trained.", "Set adapter: lora.")
            if fsdp:
                yield self.problem((key, "fsdp_config"), "cannot be used with FSDP.", "Remove one.")
            if deepspeed:
                yield self.problem((key, "deepspeed"), "cannot be used with DeepSpeed.", "Remove one.")
        for other, reason in NOT_WITH_LAYERS.items() if settings.layer_offloading else ():
            if self.cfg.value(other):
                message = f"cannot be used with {other}: {reason}"
                yield self.problem(("layer_offloading", other), message, "Remove one.")
        model = self.facts.model
        if settings.ple_cpu_offload and model is not None and not _has_table(model):
            message = "the model has no per-layer embeddings; Gemma 3n and the small Gemma 4 models have them."
            yield self.problem("ple_cpu_offload", message, "Remove it.")

    def _check_method(self) -> Iterable[Problem]:
        settings = self.cfg[OffloadSettings]
        asked = [key for key in ("activation_offloading", "layer_offloading") if getattr(settings, key)]
        for other in OTHER_LOSS:
            for key in asked if self.cfg.value(other) else ():
                message = f"does not reach the forward pass of {other} yet."
                yield self.problem((key, other), message, "Remove it.", kind="unsupported")

    def plan_load(self, plan: LoadPlan) -> None:
        """Take frozen weights home, once it is known which these are."""
        settings = self.cfg[OffloadSettings]

        def layers(model: Any) -> None:
            from newt.models.cpu_weights import offload_layers

            self.layers = offload_layers(model)

        def table(model: Any) -> None:
            from newt.models.cpu_weights import offload_table

            offload_table(model)

        plan.prepare += [layers] if settings.layer_offloading else []
        plan.prepare += [table] if settings.ple_cpu_offload else []

    def plan_train(self, plan: TrainPlan) -> None:
        """Run the forward pass so that what is saved waits elsewhere."""
        settings = self.cfg[OffloadSettings]
        value = settings.activation_offloading or OLDER.get(self.cfg.value("gradient_checkpointing"))
        folder = Path(self.cfg[RunControl].output_dir).expanduser()

        @cache
        def store() -> Any:
            from newt.training.offload import make_store

            return make_store(MODES[value], folder)

        def wrap(loss: LossFn) -> LossFn:
            from newt.training.offload import offloaded

            place = store if value else None
            return offloaded(loss, place, hidden_only=value == "hidden_states", weights=lambda: self.layers)

        if value or settings.layer_offloading:
            plan.loss.wrap(wrap, by=self.name)


def _said(value: Any) -> str:
    return str(value).lower()


def _has_table(model: Mapping[str, Any]) -> bool:
    return any(config.get("hidden_size_per_layer_input") for config in (model, model.get("text_config") or {}))
