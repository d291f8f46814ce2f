"""torch.compile."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

OPTIONS = (
    "combo_kernels", "coordinate_descent_check_all_directions", "coordinate_descent_tuning", "cpp_wrapper",
    "epilogue_fusion", "fallback_random", "freezing", "group_fusion", "layout_optimization", "max_autotune",
    "max_autotune_conv_backends", "max_autotune_gemm", "max_autotune_gemm_backends", "max_autotune_pointwise",
    "max_fusion_size", "shape_padding", "split_reductions", "trace.enabled", "trace.graph_diagram",
    "triton.cudagraph_skip_dynamic_graphs", "triton.cudagraph_trees", "triton.cudagraphs", "triton.max_tiles",
    "triton.multi_kernel", "triton.persistent_reductions", "triton.unique_kernel_names",
)  # fmt: skip
"""Settings of inductor that change its speed, not its results. torch would find another only when it compiles."""


class CompileSettings(Section):
    """Keys of torch.compile."""

    torch_compile: Literal["auto"] | bool | None = None
    """Compile each layer of the model. ``auto``: on a GPU of compute capability 7.0 or higher."""
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
        """Torch takes a mode or options, and no option by another name."""
        settings = self.cfg[CompileSettings]
        if settings.torch_compile_mode and settings.torch_compile_options:
            message = "cannot be used with torch_compile_mode: torch takes one of them."
            yield self.problem("torch_compile_options", message, "Remove one.")
        for name in settings.torch_compile_options or {}:
            if name not in OPTIONS:
                near = get_close_matches(name, OPTIONS, 1)
                hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(OPTIONS)}."
                yield self.problem(f"torch_compile_options.{name}", "is no option of torch.compile.", hint)

    def plan_load(self, plan: LoadPlan) -> None:
        """Compile the layers of the finished model."""
        settings = self.cfg[CompileSettings]
        if settings.torch_compile == "auto" and (self.facts.capability or (0, 0)) < (7, 0):
            return
        given = {
            "backend": settings.torch_compile_backend,
            "mode": settings.torch_compile_mode,
            "options": settings.torch_compile_options,
        }

        def compile_model(model: Any) -> None:
            from newt.models.compile import compile_layers

            compile_layers(model, **{name: value for name, value in given.items() if value})

        plan.prepare.append(compile_model)
