"""Checkpointing that keeps the results of some operations instead of computing them again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

MATMULS = ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear")
"""Operations whose results a layer with an adapter cannot keep: the adapter adds to them in place."""


Operation = Literal["attention", "mm", "addmm", "bmm", "baddbmm", "matmul", "linear"]


class SelectiveConfig(Section):
    """``selective_checkpointing`` as a block."""

    save: tuple[Operation, ...] = ("attention",)
    """Operations whose results are kept."""
    save_sliding_window: bool = False
    """Also keep those of sliding-window attention, which is cheap to compute again."""
    recompute_layer_types: tuple[str, ...] | None = None
    """Kinds of layers (``layer_types`` of config.json, such as ``sliding_attention``) that are computed again in
    full."""
    offload: bool = False
    """Keep them in the CPU's memory."""


class SelectiveSettings(Section):
    """The key of selective checkpointing."""

    selective_checkpointing: bool | SelectiveConfig | None = None
    """With ``gradient_checkpointing``: keep the results of attention, or of the operations that a block lists."""


class SelectiveCheckpointing(Feature):
    """Chooses what is kept."""

    name = "selective checkpointing"
    Settings = (SelectiveSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        value = cfg[SelectiveSettings].selective_checkpointing
        return bool(value.model_fields_set) if isinstance(value, SelectiveConfig) else bool(value)

    def check(self) -> Iterable[Problem]:
        """It is a form of non-reentrant checkpointing."""
        key = "selective_checkpointing"
        if not self.cfg.value("gradient_checkpointing"):
            yield self.problem(key, "needs gradient checkpointing.", "Set gradient_checkpointing: true.")
        if (self.cfg.value("gradient_checkpointing_kwargs") or {}).get("use_reentrant"):
            keys = ("gradient_checkpointing_kwargs.use_reentrant", key)
            yield self.problem(keys, "must be false with selective_checkpointing.")
        for other in ("activation_offloading", "gradient_checkpointing"):
            offloading = self.cfg.value(other)
            if offloading not in (None, False, "hidden_states") and (other, offloading) != (
                "gradient_checkpointing",
                True,
            ):
                yield self.problem((key, other), f"cannot be used with {other}: {str(offloading).lower()}.")
        if self.cfg.value("torch_compile") and self.settings.offload:
            keys = ("selective_checkpointing.offload", "torch_compile")
            yield self.problem(keys, "cannot be used with torch_compile.", "Remove one.")
        elif self.cfg.value("torch_compile"):
            yield self.problem(key, "is not tested with torch_compile.", kind="warning")
        yield from self._check_saved()
        yield from self._check_kinds()

    @property
    def settings(self) -> SelectiveConfig:
        """The block, or that of ``true``."""
        value = self.cfg[SelectiveSettings].selective_checkpointing
        return value if isinstance(value, SelectiveConfig) else SelectiveConfig()

    def _check_kinds(self) -> Iterable[Problem]:
        model = self.facts.model or {}
        known: list[str] = (model.get("text_config") or model).get("layer_types") or []
        for kind in self.settings.recompute_layer_types or () if known else ():
            if kind not in known:
                message = f"the model has no layers of type {kind!r}; it has: {', '.join(sorted(set(known)))}."
                yield self.problem("selective_checkpointing.recompute_layer_types", message)

    def _check_saved(self) -> Iterable[Problem]:
        products = [name for name in self.settings.save if name in MATMULS]
        if products and self.cfg.value("adapter"):
            message = f"{', '.join(products)}: results of matrix products cannot be kept with an adapter."
            yield self.problem("selective_checkpointing.save", message, "Keep attention only.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Switch it on in the model: the trainer's argument cannot hold a choice of operations."""
        chosen = self.settings

        def enable(model: Any) -> None:
            from newt.training.checkpointing import enable_selective

            enable_selective(
                model,
                chosen.save,
                sliding_window=chosen.save_sliding_window,
                recomputed=chosen.recompute_layer_types or (),
                offload=chosen.offload,
            )

        plan.prepare.append(enable)
