"""ReLoRA: merge the adapter into the model every so many steps and begin a new one. https://arxiv.org/abs/2307.05695"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from newt.config.core import RunControl
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, Stored, TrainPlan


class ReloraSettings(Section):
    """Keys of ReLoRA."""

    relora: bool | None = None
    """Merge the adapter into the model at each restart (``jagged_restart_steps``) and begin a new one."""
    relora_prune_ratio: float | None = Field(default=None, ge=0, le=1)
    """Share of the optimizer's state that is forgotten at a restart. Default 0.9 by magnitude."""
    relora_prune_method: Literal["magnitude", "random", "reset"] = "magnitude"
    """What is forgotten: the smallest values, random ones, or nearly all."""
    relora_cpu_offload: bool | None = None
    """Merge on the CPU, to save GPU memory."""


class Relora(Feature):
    """Restarts of the adapter."""

    name = "relora"
    Settings = (ReloraSettings,)
    off = "relora is not on"
    switches = ("relora",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[ReloraSettings].relora)

    def check(self) -> Iterable[Problem]:
        """A LoRA adapter, restarts, and nothing that shards the model or fixes the schedule."""
        value = self.cfg.value
        if value("adapter") not in ("lora", "qlora"):
            yield self.problem(("relora", "adapter"), "needs a LoRA adapter.", "Set adapter: lora.")
        if not value("jagged_restart_steps"):
            yield self.problem(("relora", "jagged_restart_steps"), "needs jagged_restart_steps.", "For example 200.")
        yield from self._check_adapter()
        for key in self.sharding():
            yield self.problem(("relora", key), f"cannot be used with {key}.", "Remove one.")
        if value("lr_scheduler") == "one_cycle":
            yield self.problem(
                ("relora", "lr_scheduler"), "cannot be used with one_cycle.", "Use lr_scheduler: cosine."
            )
        if value("flash_attn_fuse_mlp"):
            yield self.problem(
                ("relora", "flash_attn_fuse_mlp"), "cannot be used with flash_attn_fuse_mlp.", "Remove one."
            )

    def _check_adapter(self) -> Iterable[Problem]:
        """Adapters that can go into the base and begin anew, and an optimizer that can forget."""
        value = self.cfg.value
        for key in ("load_in_4bit", "load_in_8bit"):
            if value(key):
                # Measured on normal weights and an update of a hundredth of their size: 1.4 % of it is left in NF4, and
                # in 8 bits the error is three quarters of it. The base would be needed in 16 bits as well.
                why = "Rounding the base again would lose what each restart adds to it: remove one."
                yield self.not_yet("relora", f"relora with {key}", why)
        for key, what in (("lora_target_parameters", "parameters"), ("peft_layer_replication", "repeated layers")):
            if value(key):
                yield self.problem(("relora", key), f"cannot restart adapters of {what}.", f"Remove {key}.")
        begin = value("peft_init_lora_weights")
        if begin not in (None, True, "gaussian") or value("peft"):
            keys = ("relora", "peft_init_lora_weights")
            yield self.problem(keys, "needs an adapter that begins without effect.", "Use true or gaussian.")
        if not self._adam():
            name = str(value("optimizer"))
            message = f"prunes the moments of Adam, which {name} has not in a type with a zero."
            yield self.problem(("relora", "optimizer"), message, "Use optimizer: adamw_torch or adamw_8bit.")

    def sharding(self) -> list[str]:
        """Keys that shard the model."""
        return [key for key in ("fsdp", "fsdp_config", "deepspeed") if self.cfg.value(key)]

    def _adam(self) -> bool:
        """Whether the optimizer keeps both moments as numbers, or in 8 bits. In 4 bits the second has no zero."""
        name = str(self.cfg.value("optimizer"))
        return name.startswith(("adamw", "paged_adamw", "ao_adamw")) and not name.endswith(("4bit", "fp8"))

    def plan_train(self, plan: TrainPlan) -> None:
        """Restart between steps; checkpoints hold the base as well."""
        plan.callbacks.append(self.callback)
        plan.stored.append(Stored(save=self.save, load=_load))

    def save(self, model: Any, folder: Path) -> None:
        """Write the base into a checkpoint, and its place into the adapter's config."""
        from newt.models.relora import FOLDER, name_base, save_base

        save_base(model, folder / FOLDER)
        name_base(folder, Path(self.cfg[RunControl].output_dir).expanduser() / FOLDER)

    def callback(self) -> Any:
        """What restarts the adapter."""
        from newt.training.callbacks.relora import Relora as Restart

        settings = self.cfg[ReloraSettings]
        steps = self.cfg.value("jagged_restart_steps") or 1
        return Restart(
            steps, settings.relora_prune_method, settings.relora_prune_ratio, bool(settings.relora_cpu_offload)
        )


def _load(model: Any, folder: Path) -> None:
    from newt.models.relora import FOLDER, load_base

    load_base(model, folder / FOLDER)
