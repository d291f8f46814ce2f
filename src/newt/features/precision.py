"""Number formats: the type of the weights, and the type of the arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan, TrainPlan

Kind = Literal["bf16", "fp16", "bfloat16", "float16", "float32"]


class PrecisionSettings(Section):
    """Keys of number formats."""

    bf16: Literal["auto", "full"] | bool | None = "auto"
    """bfloat16 arithmetic (mixed precision). ``auto``: if the hardware does it natively, else float16 on a GPU and
    float32 on a CPU. ``full``: evaluate in bfloat16 too, without float32 parts."""
    fp16: bool | None = None
    """float16 arithmetic with loss scaling (mixed precision, GPU only)."""
    bfloat16: bool = False
    """Weights and arithmetic in bfloat16, without a float32 copy."""
    float16: bool = False
    """Weights and arithmetic in float16, without a float32 copy."""
    float32: bool = False
    """Weights and arithmetic in float32."""
    tf32: Literal["auto"] | bool | None = None
    """Let float32 matrix products use TensorFloat-32 on the GPU. ``auto``: where the GPU has it."""


class Precision(Feature):
    """Trained weights stay float32 under mixed precision; a frozen base is held in the type of the arithmetic.

    So an optimizer step is never lost to rounding, and an adapter run needs no float32 copy of the base model.
    """

    name = "precision"
    Settings = (PrecisionSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    def check(self) -> Iterable[Problem]:
        """One format, and one that the hardware has."""
        settings, facts = self.cfg[PrecisionSettings], self.facts
        chosen = [key for key in ("bf16", "fp16", "bfloat16", "float16", "float32") if self._asked(key)]
        if len(chosen) > 1:
            yield self.problem(tuple(chosen[::-1]), f"cannot be used with {chosen[0]}.", "Keep one of them.")
        if not facts.known:
            return
        if chosen and chosen[0] in ("fp16", "float16") and not facts.gpus:
            yield self.problem(chosen[0], "needs a GPU, and there is none.", "Use bf16: auto.")
        if settings.bf16 in (True, "full") and not self._native_bf16():
            yield self.problem(
                "bf16", "this machine does not compute in bfloat16.", "Use bf16: auto, or float32: true."
            )
        if settings.tf32 is True and (facts.capability or (0, 0)) < (8, 0):
            yield self.problem("tf32", "this machine has no TensorFloat-32.", "Use tf32: auto.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Choose the type of the weights."""
        kind = self.kind()
        frozen = {"bf16": "bfloat16", "fp16": "float16"}
        if kind in frozen:
            plan.kwargs.fill(by=self.name, dtype=frozen[kind] if plan.adapter else "float32")
            if plan.adapter and self.cfg.value("peft_autocast_adapter_dtype") is not False:
                plan.prepare += [_trained_in_float32, _without_casts]
        else:
            plan.kwargs.fill(by=self.name, dtype=kind)

    def plan_train(self, plan: TrainPlan) -> None:
        """Choose the type of the arithmetic."""
        settings, kind = self.cfg[PrecisionSettings], self.kind()
        plan.args.fill(by=self.name, bf16=kind == "bf16", fp16=kind == "fp16", bf16_full_eval=settings.bf16 == "full")
        tf32 = (self.facts.capability or (0, 0)) >= (8, 0) if settings.tf32 == "auto" else settings.tf32
        if tf32:
            plan.args.fill(by=self.name, tf32=True)

    def kind(self) -> Kind:
        """The format that the settings and the machine give."""
        settings = self.cfg[PrecisionSettings]
        pure: tuple[Kind, ...] = ("bfloat16", "float16", "float32")
        for name in pure:
            if getattr(settings, name):
                return name
        if settings.fp16:
            return "fp16"
        if settings.bf16 in (True, "full"):
            return "bf16"
        if settings.bf16 == "auto":
            if self._native_bf16():
                return "bf16"
            return "fp16" if self.facts.gpus else "float32"
        return "float32"

    def _asked(self, key: str) -> bool:
        return key in self.cfg.given and getattr(self.cfg[PrecisionSettings], key) in (True, "full")

    def _native_bf16(self) -> bool:
        if self.facts.gpus:
            return (self.facts.capability or (0, 0)) >= (8, 0)
        return self.facts.cpu_bf16


def _trained_in_float32(model: Any) -> None:
    from newt.models.adapters import in_float32

    in_float32(model)


def _without_casts(model: Any) -> None:
    from newt.models.lora_casts import skip_casts

    skip_casts(model)
