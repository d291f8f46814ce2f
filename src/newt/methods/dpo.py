"""Direct preference optimization (https://arxiv.org/abs/2305.18290) and IPO (https://arxiv.org/abs/2310.12036)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

from pydantic import Field

from newt.config.core import Objective
from newt.config.section import Problem, Section
from newt.extend import Method

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
"""Values of ``dpo_loss_type``."""


class DpoSettings(Section):
    """Keys of DPO and IPO."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    dpo_loss_type: str | tuple[str, ...] | None = None
    """Form of the loss, or several that are added. Default: sigmoid."""
    dpo_loss_weights: tuple[float, ...] | None = None
    """Weight of each of them. Default: 1 for each."""
    dpo_label_smoothing: float | None = Field(default=None, ge=0, lt=0.5)
    """Share of pairs that are taken to be labelled the wrong way round."""
    dpo_use_weighting: bool | None = None
    """Weigh each pair by its probability under the policy (WPO)."""
    dpo_padding_free: bool | None = None
    """Put the pairs of a batch into one row without padding."""
    dpo_norm_loss: bool | None = None
    """Divide log-probabilities by the length of the answer."""
    dpo_use_logits_to_keep: bool | None = None
    """Compute the output layer for answers only."""
    dpo_generate_during_eval: bool | None = None
    """Log answers of the policy and of the reference model at each evaluation."""
    dpo_use_liger_kernel: bool | None = None
    """Compute the loss together with the output layer, in a kernel of Liger."""
    rpo_alpha: float | None = Field(default=None, ge=0)
    """Weight of the cross-entropy of the better answer."""
    precompute_ref_log_probs: bool | None = None
    """Compute the reference model's log-probabilities before training."""

    @property
    def losses(self) -> tuple[str, ...]:
        """The forms of the loss that were given."""
        return (self.dpo_loss_type,) if isinstance(self.dpo_loss_type, str) else self.dpo_loss_type or ()


class Dpo(Method):
    """Makes the better answer likelier and the worse one less likely, compared with the reference model."""

    name = "dpo"
    Settings = (DpoSettings,)
    rows = "preference"
    chosen_by: ClassVar = {"rl": ("dpo", "ipo")}
    off = "rl is not dpo"

    def check(self) -> Iterable[Problem]:
        """Known losses with as many weights, that go with the other keys."""
        settings, rl = self.cfg[DpoSettings], str(self.cfg[Objective].rl)
        yield self.not_yet("rl", rl)
        if rl == "ipo":
            yield self.problem("rl", "ipo is an older spelling.", "Set rl: dpo and dpo_loss_type: [ipo].", "warning")
            for key in ("dpo_loss_type", "dpo_loss_weights"):
                if getattr(settings, key):
                    yield self.problem((key, "rl"), "cannot be used with rl: ipo.", "Set rl: dpo.")
        for name in settings.losses:
            if name not in LOSSES:
                near = get_close_matches(name, LOSSES, 1)
                hint = f"Did you mean {near[0]}? " if near else ""
                yield self.problem("dpo_loss_type", f"unknown loss {name!r}.", f"{hint}Valid: {', '.join(LOSSES)}.")
        yield from self._check_combinations(rl == "ipo" or "ipo" in settings.losses)

    def _check_combinations(self, ipo: bool) -> Iterable[Problem]:
        settings = self.cfg[DpoSettings]
        if settings.dpo_loss_weights is not None:
            losses, weights = len(settings.losses) or 1, len(settings.dpo_loss_weights)
            if losses != weights:
                message = f"needs one weight for each of dpo_loss_type: {losses}, got {weights}."
                yield self.problem(("dpo_loss_weights", "dpo_loss_type"), message)
        if ipo and settings.dpo_use_liger_kernel:
            message = "cannot be used with the ipo loss, whose margin is a mean over the answer."
            yield self.problem("dpo_use_liger_kernel", message, "Remove it.")
        if ipo and settings.dpo_label_smoothing:
            yield self.problem("dpo_label_smoothing", "cannot be used with the ipo loss.", "Remove it.")
