"""Checkpointing that keeps the results of some operations instead of computing them again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

MATMULS = ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear")
"""Operations whose results a layer with an adapter cannot keep: the adapter adds to them in place."""


Operation = Literal["attention", "mm", "addmm", "bmm", "baddbmm", "matmul", "linear"]


class SelectiveConfig(Section):
    """``selective_checkpointing`` as a block."""

    coming: ClassVar[frozenset[str]] = frozenset({"save_sliding_window", "recompute_layer_types", "offload"})

    save: tuple[Operation, ...] = ("attention",)
    """Operations whose results are kept."""
    save_sliding_window: bool = False
    """Also keep those of sliding-window attention, which is cheap to compute again."""
    recompute_layer_types: tuple[str, ...] | None = None
    """Layer types that are computed again in full."""
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
        offloading = self.cfg.value("activation_offloading")
        if offloading not in (None, False, "hidden_states"):
            yield self.problem(
                (key, "activation_offloading"), f"cannot be used with activation_offloading: {str(offloading).lower()}."
            )
        if self.cfg.value("torch_compile"):
            yield self.problem(key, "is not tested with torch_compile.", kind="warning")
        yield from self._check_saved()

    def _check_saved(self) -> Iterable[Problem]:
        value = self.cfg[SelectiveSettings].selective_checkpointing
        products = [name for name in value.save if name in MATMULS] if isinstance(value, SelectiveConfig) else []
        if products and self.cfg.value("adapter"):
            message = f"{', '.join(products)}: results of matrix products cannot be kept with an adapter."
            yield self.problem("selective_checkpointing.save", message, "Keep attention only.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Switch it on in the model: the trainer's argument cannot hold a choice of operations."""
        value = self.cfg[SelectiveSettings].selective_checkpointing
        saved = value.save if isinstance(value, SelectiveConfig) else SelectiveConfig().save

        def enable(model: Any) -> None:
            from newt.training.checkpointing import enable_selective

            enable_selective(model, saved)

        plan.prepare.append(enable)
