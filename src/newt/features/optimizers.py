"""Which optimizer updates the weights, and with which numbers."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, ClassVar

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

SUPPORTED = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")
"""Those that need nothing but torch and transformers."""

KNOWN = (
    "adamw_torch_4bit", "adamw_torch_8bit", "adamw_anyprecision", "adamw_bnb_8bit", "adamw_8bit", "rmsprop_bnb",
    "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit",
    "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit", "ademamix", "ademamix_8bit",
    "galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise", "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise", "lomo", "adalomo", "grokadamw", "schedule_free_radam", "schedule_free_adamw",
    "schedule_free_sgd", "apollo_adamw", "apollo_adamw_layerwise", "stable_adamw", "optimi_adamw", "ao_adamw_4bit",
    "ao_adamw_8bit", "ao_adamw_fp8", "adopt_adamw", "came_pytorch", "muon", "dion", "sinkgd", "q_galore_adamw8bit",
    "polora",
    "flash_adam", "flash_adamw", "flash_sgd", "flash_sgdw", "flash_lion",
)  # fmt: skip
"""Names of the field that Newt does not offer yet."""


class OptimizerSettings(Section):
    """Keys of the optimizer."""

    coming: ClassVar[frozenset[str]] = frozenset(
        {"optim_target_modules", "torchdistx_path", "adam_beta3", "adam_epsilon2"}
    )

    optimizer: str = "adamw_torch_fused"
    """Name of the optimizer."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of weights (not of biases and norms) in each step."""
    optim_args: dict[str, Any] | str | None = None
    """Further arguments of the optimizer: a mapping, or ``name=value,name=value``."""
    adam_beta1: float | None = Field(default=None, ge=0, lt=1)
    """Decay of the first moment. Default 0.9."""
    adam_beta2: float | None = Field(default=None, ge=0, lt=1)
    """Decay of the second moment. Default 0.999."""
    adam_epsilon: float | None = Field(default=None, gt=0)
    """Added to the denominator. Default 1e-8."""
    adam_beta3: float | None = Field(default=None, ge=0, lt=1)
    """CAME: decay of its confidence. Default 0.9999."""
    adam_epsilon2: float | None = Field(default=None, gt=0)
    """CAME: added to the confidence. Default 1e-16."""
    optim_target_modules: str | tuple[str, ...] | None = None
    """GaLore, APOLLO: modules whose gradients are projected, or ``all_linear``."""
    torchdistx_path: str | None = None
    """adamw_anyprecision: folder of torchdistx."""


class Optimizers(Feature):
    """Chooses the optimizer."""

    name = "optimizer"
    Settings = (OptimizerSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    def check(self) -> Iterable[Problem]:
        """The name, and numbers that it reads."""
        settings = self.cfg[OptimizerSettings]
        if settings.optimizer in KNOWN:
            yield self.problem(
                "optimizer",
                f"{settings.optimizer} is known, but Newt does not support it yet.",
                kind="unsupported",
            )
        elif settings.optimizer not in SUPPORTED:
            near = get_close_matches(settings.optimizer, SUPPORTED + KNOWN, 1)
            hint = (f"Did you mean {near[0]}? " if near else "") + f"Valid: {', '.join(SUPPORTED)}."
            yield self.problem("optimizer", f"unknown optimizer {settings.optimizer!r}.", hint)
        elif not settings.optimizer.startswith("adamw"):
            for key in ("adam_beta1", "adam_beta2", "adam_epsilon"):
                if key in self.cfg.given:
                    yield self._no_effect(key)
        yield from self._check_special(settings)

    def _check_special(self, settings: OptimizerSettings) -> Iterable[Problem]:
        """Keys that one family of optimizers reads."""
        for key in ("adam_beta3", "adam_epsilon2"):
            if key in self.cfg.given and settings.optimizer != "came_pytorch":
                yield self._no_effect(key)
        if settings.optim_target_modules and not settings.optimizer.startswith(("galore", "apollo", "q_galore")):
            yield self._no_effect("optim_target_modules")
        if settings.torchdistx_path and settings.optimizer != "adamw_anyprecision":
            yield self._no_effect("torchdistx_path")
        if settings.optimizer == "polora" and self.cfg.value("adapter") is None:
            yield self.problem(("optimizer", "adapter"), "polora only updates adapters.", "Set adapter: lora.")

    def _no_effect(self, key: str) -> Problem:
        return self.problem(key, f"has no effect: optimizer is {self.cfg[OptimizerSettings].optimizer}.", "Remove it.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Name the optimizer for transformers."""
        settings = self.cfg[OptimizerSettings]
        numbers = {
            key: getattr(settings, key)
            for key in ("adam_beta1", "adam_beta2", "adam_epsilon")
            if getattr(settings, key) is not None
        }
        plan.args.fill(
            by=self.name,
            optim=settings.optimizer,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            **numbers,
        )
        if settings.optim_args:
            plan.args.fill(by=self.name, optim_args=_as_text(settings.optim_args))


def _as_text(value: dict[str, Any] | str) -> str:
    return value if isinstance(value, str) else ",".join(f"{key}={item}" for key, item in value.items())
