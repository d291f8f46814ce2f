"""8-bit floating point matrix products."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from newt.config.parallel import Fsdp
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan


class Fp8Config(Section):
    """``fp8_config``."""

    recipe: Literal["tensorwise", "rowwise", "rowwise_with_gw_hp"] = "tensorwise"
    """What shares one scale."""


class Fp8Settings(Section):
    """Keys of 8-bit training."""

    coming: ClassVar[frozenset[str]] = frozenset({"fp8_enable_fsdp_float8_all_gather"})

    fp8: bool | None = None
    """Compute the linear layers in 8 bits (torchao; compute capability 9.0)."""
    fp8_config: Fp8Config | None = None
    """How it scales."""
    fp8_enable_fsdp_float8_all_gather: bool | None = None
    """Also gather sharded weights in 8 bits (FSDP 2, tensorwise)."""


class Fp8(Feature):
    """Float8 linear layers."""

    name = "fp8"
    Settings = (Fp8Settings,)
    off = "fp8 is not on"
    switches = ("fp8",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[Fp8Settings].fp8)

    def check(self) -> Iterable[Problem]:
        """What it needs, and what it gains nothing without."""
        settings, fsdp = self.cfg[Fp8Settings], self.cfg[Fsdp]
        if settings.fp8_enable_fsdp_float8_all_gather:
            if fsdp.version != 2:
                yield self.problem("fp8_enable_fsdp_float8_all_gather", "needs FSDP 2.", "Set fsdp_version: 2.")
            if settings.fp8_config and settings.fp8_config.recipe != "tensorwise":
                message = f"cannot be used with the recipe {settings.fp8_config.recipe}."
                yield self.problem("fp8_enable_fsdp_float8_all_gather", message, "Use the recipe tensorwise.")
        for key in ("load_in_4bit", "load_in_8bit", "gptq", "qat"):
            if self.cfg.value(key):
                message = f"cannot be used with {key}: both decide how the weights of a layer are held."
                yield self.problem(("fp8", key), message, "Remove one.")
        if not self.cfg.value("torch_compile"):
            yield self.problem("fp8", "is hardly faster without torch_compile.", "Set torch_compile: true.", "warning")
        if fsdp.on and fsdp.options.activation_checkpointing:
            message = "may be slower than bf16 with fsdp_config.activation_checkpointing."
            yield self.problem("fp8", message, kind="warning")
        if self.facts.known:
            yield from self._check_machine()

    def _check_machine(self) -> Iterable[Problem]:
        if (self.facts.capability or (0, 0)) < (9, 0):
            yield self.problem("fp8", "needs a GPU of compute capability 9.0 or higher.", "Use bf16: auto.")
        if "torchao" not in self.facts.packages:
            yield self.problem("fp8", "needs the package torchao.", "Run: pip install torchao")

    def plan_load(self, plan: LoadPlan) -> None:
        """Convert the linear layers of the finished model."""
        recipe = (self.cfg[Fp8Settings].fp8_config or Fp8Config()).recipe

        def convert(model: Any) -> None:
            from newt.models.float8 import to_float8

            to_float8(model, recipe)

        plan.prepare.append(convert)
