"""Each weight is updated as soon as its gradient is there, so that only one gradient is in memory at a time.

Where it is allowed the trained weights are those of a run without it, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable

from newt.config.core import Batch
from newt.config.plugins import has_plugin
from newt.config.section import Config, Problem, Section
from newt.extend import Feature
from newt.support import env
from newt.training.optimizer_table import OPTIMIZERS, Entry


class OptimizerInBwdSettings(Section):
    """Keys of updates during the backward pass."""

    optimizer_in_bwd: bool = False
    """Update each weight as soon as its gradient is there, and drop the gradient: saves the memory of all gradients in
    full fine-tuning. Needs ``gradient_accumulation_steps: 1`` and ``max_grad_norm: 0``."""


NOT_WITH = {
    "fp16": "its scaler looks at all gradients before a step. Use bf16",
    "float16": "its scaler looks at all gradients before a step. Use bf16",
    "auto_find_batch_size": "it raises gradient_accumulation_steps",
    "fsdp": "it needs one process",
    "fsdp_config": "it needs one process",
    "deepspeed": "it needs one process",
}
"""Key -> why it cannot be used with updates during the backward pass."""


class OptimizerInBwd(Feature):
    """Says with what it is exact; the optimizer's own Part makes it."""

    name = "optimizer in backward"
    Settings = (OptimizerInBwdSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When it is on."""
        return cfg[OptimizerInBwdSettings].optimizer_in_bwd

    def check(self) -> Iterable[Problem]:
        """Gradients that are whole only one at a time can neither be clipped together, nor added up, nor exchanged."""
        if self.cfg[Batch].accumulation != 1:
            message = "must be 1 with optimizer_in_bwd: gradients are used before they could be added up."
            keys = ("gradient_accumulation_steps", "batch_size", "optimizer_in_bwd")
            yield self.problem(keys, message, "Raise micro_batch_size instead.")
        if self.cfg.value("max_grad_norm") != 0:
            message = "gradients are clipped to max_grad_norm (default 1.0), which needs all of them at once."
            yield self.problem(("optimizer_in_bwd", "max_grad_norm"), message, "Set max_grad_norm: 0.")
        if self.cfg.value("adapter"):
            message = "saves nothing with adapter: only its small weights have gradients."
            yield self.problem(("optimizer_in_bwd", "adapter"), message, "Remove it.")
        for key, why in NOT_WITH.items():
            if self.cfg.value(key):
                message = f"cannot be used with {key}: {why}."
                yield self.problem(("optimizer_in_bwd", key), message, "Remove one.")
        if has_plugin(self.cfg, "GrokfastPlugin"):
            message = "cannot be used with Grokfast: it changes all gradients before a step."
            yield self.problem(("optimizer_in_bwd", "plugins"), message, "Remove one.")
        if env.world_size() > 1:
            message = "needs one process: gradients are used before the processes exchange them."
            yield self.problem("optimizer_in_bwd", message, "Remove it.")
        elif self.facts.gpus > 1:
            message = f"only one process can train with it: {self.facts.gpus} GPUs cannot be used."
            yield self.problem("optimizer_in_bwd", message, "Train on one, or remove it.", kind="warning")
        entry = OPTIMIZERS.get(str(self.cfg.value("optimizer")))
        if entry is not None:
            yield from self._check_optimizer(str(self.cfg.value("optimizer")), entry)

    def _check_optimizer(self, name: str, entry: Entry) -> Iterable[Problem]:
        """It must update each parameter from that one's gradient and state alone."""
        keys = ("optimizer_in_bwd", "optimizer")
        if entry.kind in ("layerwise", "fused"):
            message = f"has no effect: {name} updates weights during the backward pass anyway."
            yield self.problem(keys, message, "Remove it.")
        elif entry.kind == "low_rank":
            yield self.problem(keys, f"cannot be used with {name}.", f"Set optimizer: {name}_layerwise.")
        elif entry.whole:
            yield self.problem(keys, f"cannot be used with {name}: {entry.whole}.", "Use adamw_torch_fused.")
        if "bf16_stochastic_round" in str(self.cfg.value("optim_args")):
            message = "cannot be used with bf16_stochastic_round: what it draws depends on the order of updates."
            yield self.problem(("optimizer_in_bwd", "optim_args"), message, "Remove one.")
