"""torch.compile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class CompileSettings(Section):
    """Keys of torch.compile."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    torch_compile: Literal["auto"] | bool | None = None
    """Compile the model. ``auto``: where the installed torch does it well."""
    torch_compile_backend: str | None = None
    """Compiler. Default: inductor."""
    torch_compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None = (
        None
    )
    """How much time goes into finding fast code."""
    torch_compile_options: dict[str, Any] | None = None
    """Options of inductor, such as ``coordinate_descent_tuning``."""


class Compile(Feature):
    """Compiles the model."""

    name = "compile"
    Settings = (CompileSettings,)
    off = "torch_compile is not on"
    switches = ("torch_compile",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[CompileSettings].torch_compile)

    def check(self) -> Iterable[Problem]:
        """Torch takes a mode or options."""
        settings = self.cfg[CompileSettings]
        if settings.torch_compile_mode and settings.torch_compile_options:
            message = "cannot be used with torch_compile_mode: torch takes one of them."
            yield self.problem("torch_compile_options", message, "Remove one.")
