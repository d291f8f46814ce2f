"""Which optimizer updates the weights, and with which numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import Field

from newt.config.core import Batch
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan
from newt.support import env
from newt.training.optimizer_table import OPTIMIZERS, TYPES, Entry

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

KNOWN = (
    "sinkgd", "q_galore_adamw8bit", "polora", "flash_adam", "flash_adamw", "flash_sgd", "flash_sgdw", "flash_lion",
)  # fmt: skip
"""Names of the field that Newt does not offer yet."""

NUMBERS = ("adam_beta1", "adam_beta2", "adam_beta3", "adam_epsilon", "adam_epsilon2")
IN_ARGS = {"adam_beta1": "beta1", "adam_beta2": "beta2", "adam_beta3": "beta3", "adam_epsilon": "eps",
           "adam_epsilon2": "eps2"}  # fmt: skip
"""Key -> its name in ``optim_args``."""


class OptimizerSettings(Section):
    """Keys of the optimizer."""

    optimizer: str = "adamw_torch_fused"
    """Name of the optimizer."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of weights (not of biases and norms) in each step."""
    optim_args: dict[str, Any] | str | None = None
    """Further arguments of the optimizer: a mapping, or ``name=value,name=value``."""
    adam_beta1: float | None = Field(default=None, ge=0, lt=1)
    """Decay of the first moment. Default: the optimizer's, mostly 0.9."""
    adam_beta2: float | None = Field(default=None, ge=0, lt=1)
    """Decay of the second moment. Default: the optimizer's, mostly 0.999."""
    adam_epsilon: float | None = Field(default=None, gt=0)
    """Added to the denominator. Default: the optimizer's, mostly 1e-8."""
    adam_beta3: float | None = Field(default=None, ge=0, lt=1)
    """CAME, AdEMAMix: decay of the third moment. Default 0.9999."""
    adam_epsilon2: float | None = Field(default=None, gt=0)
    """CAME: added to the confidence. Default 1e-16."""
    optim_target_modules: str | tuple[str, ...] | None = None
    """GaLore, APOLLO: modules whose gradients are projected, or ``all_linear``."""
    torchdistx_path: str | None = None
    """adamw_anyprecision: folder of torchdistx."""


class Optimizers(Feature):
    """Makes the optimizer."""

    name = "optimizer"
    Settings = (OptimizerSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    @property
    def settings(self) -> OptimizerSettings:
        """The keys."""
        return self.cfg[OptimizerSettings]

    def check(self) -> Iterable[Problem]:
        """The name, what it needs, and numbers that it reads."""
        name = self.settings.optimizer
        if name == "polora" and self.cfg.value("adapter") is None:
            yield self.problem(("optimizer", "adapter"), "polora only updates adapters.", "Set adapter: lora.")
        entry = OPTIMIZERS.get(name)
        if entry is None and name in KNOWN:
            yield self.not_yet("optimizer", name)
        elif entry is None:
            near = get_close_matches(name, (*OPTIMIZERS, *KNOWN), 1)
            hint = (f"Did you mean {near[0]}? " if near else "") + f"Valid: {', '.join(OPTIMIZERS)}."
            yield self.problem("optimizer", f"unknown optimizer {name!r}.", hint)
        else:
            yield from self._check_needs(entry)
            yield from self._check_numbers(entry)
            yield from self._check_args(entry)
            yield from self._check_fused(entry)
            yield from self._check_run(entry)
        if self.settings.torchdistx_path and name != "adamw_anyprecision":
            yield self._no_effect("torchdistx_path")
        targeted = bool(entry.target) if entry else name.startswith("q_galore")
        if self.settings.optim_target_modules and not targeted:
            yield self._no_effect("optim_target_modules")

    def _check_needs(self, entry: Entry) -> Iterable[Problem]:
        """Packages and hardware."""
        name = self.settings.optimizer
        if entry.instead:
            message = f"{name} is the older name of {entry.instead}."
            yield self.problem("optimizer", message, f"Write {entry.instead}.", kind="warning")
        if not self.facts.known:
            return
        for package in entry.packages:
            if package not in self.facts.packages and not self.settings.torchdistx_path:
                hint = f"pip install 'newt-tune[{entry.extra}]'." if entry.extra else "Set torchdistx_path."
                yield self.problem("optimizer", f"{name} needs the package {package}.", hint)
        if entry.needs_gpu and not self.facts.gpus:
            yield self.problem("optimizer", f"{name} needs a GPU.", "Use adafactor.")
        if self.facts.capability and self.facts.capability < entry.capability:
            yield self.problem("optimizer", f"{name} needs a GPU that computes in float8.", "Use adamw_torch_8bit.")

    def _check_numbers(self, entry: Entry) -> Iterable[Problem]:
        """Betas and epsilons that it does not have."""
        reads = {key for key in NUMBERS if IN_ARGS[key] in entry.numbers}
        for key in NUMBERS:
            if key in self.cfg.given and key not in reads:
                yield self._no_effect(key)

    def _check_args(self, entry: Entry) -> Iterable[Problem]:
        """Arguments that it does not have, and values of the wrong type."""
        if entry.target and not self.settings.optim_target_modules:
            keys = ("optim_target_modules", "optimizer")
            message = f"{self.settings.optimizer} needs the modules whose gradients are projected."
            yield self.problem(keys, message, "Set optim_target_modules: all_linear.")
        try:
            given = read_args(self.settings.optim_args)
        except ValueError as error:
            yield self.problem("optim_args", f"{error}.", "Write a mapping.")
            return
        known = entry.known_args
        for name, value in given.items():
            if name not in known:
                valid = f"Valid: {', '.join(known)}." if known else "It has none."
                yield self.problem("optim_args", f"{self.settings.optimizer} has no argument {name!r}.", valid)
                continue
            try:
                coerce(name, value)
            except ValueError as error:
                yield self.problem("optim_args", f"{error}.")
            key = next((key for key in NUMBERS if IN_ARGS[key] == name and key in self.cfg.given), None)
            if key:
                yield self.problem("optim_args", f"sets {name}, and so does {key}.", "Remove one.")

    def _check_fused(self, entry: Entry) -> Iterable[Problem]:
        """Updates during the backward pass: there is never a whole gradient."""
        name = self.settings.optimizer
        if entry.kind not in ("layerwise", "fused"):
            return
        why = f"{name} updates weights during the backward pass"
        if self.cfg[Batch].accumulation != 1:
            keys = ("gradient_accumulation_steps", "optimizer")
            yield self.problem(keys, f"must be 1: {why}.", "Raise micro_batch_size instead.")
        if self.cfg.value("fp16"):
            yield self.problem(("optimizer", "fp16"), f"cannot be used with fp16: {why}.", "Use bf16.")
        if self.cfg.value("max_grad_norm"):
            yield self.problem(("max_grad_norm", "optimizer"), f"has no effect: {why}.", "Remove it.")
        if "max_grad_norm" not in self.cfg.given:
            yield self.problem("optimizer", f"gradients are not clipped: {why}.", kind="warning")
        yield from self._check_processes(name, why)
        for key in ("lr_groups", "embedding_lr", "embedding_lr_scale", "loraplus_lr_ratio"):
            if entry.kind == "fused" and self.cfg.value(key):
                yield self.problem((key, "optimizer"), f"has no effect: {name} has one learning rate.", "Remove it.")

    def _check_processes(self, name: str, why: str) -> Iterable[Problem]:
        """Each process would update its weights with the gradients of its own rows."""
        if env.world_size() > 1:
            message = f"{name} needs one process, not {env.world_size()}: {why}, before gradients are exchanged."
            yield self.problem("optimizer", message, "Use adamw_torch.")
        elif self.facts.gpus > 1:
            message = f"{name} cannot use {self.facts.gpus} GPUs: {why}, so only one process can train."
            yield self.problem("optimizer", message, "Train on one, or use adamw_torch.", kind="warning")

    def _check_run(self, entry: Entry) -> Iterable[Problem]:
        """Going on from a checkpoint, and schedules."""
        name = self.settings.optimizer
        for key in ("resume_from_checkpoint", "auto_resume_from_checkpoints") if entry.no_resume else ():
            if self.cfg.value(key):
                message = f"a run with {name} cannot go on from a checkpoint: {entry.no_resume}."
                yield self.problem((key, "optimizer"), message, "Remove one.")
        if name.startswith("schedule_free") and not str(self.cfg.value("lr_scheduler")).startswith("constant"):
            message = f"{name} is made for a constant learning rate."
            hint = "Set lr_scheduler: constant_with_warmup."
            yield self.problem(("lr_scheduler", "optimizer"), message, hint, kind="warning")
        alone = name.startswith(("schedule_free", "dion")) or entry.kind == "layerwise"
        for key in ("fsdp", "fsdp_config", "deepspeed") if alone else ():
            if self.cfg.value(key):
                yield self.problem(("optimizer", key), f"{name} cannot be used with {key}.", "Use adamw_torch.")

    def _no_effect(self, key: str) -> Problem:
        return self.problem(key, f"has no effect: optimizer is {self.settings.optimizer}.", "Remove it.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the optimizer's slot; the groups are those that stand in the plan when it is made."""
        settings = self.settings
        entry = OPTIMIZERS.get(settings.optimizer)
        # The trainer asks this name only how to run the backward pass.
        optim = settings.optimizer if entry and entry.kind == "fused" else "adamw_torch"
        plan.args.fill(
            by=self.name, optim=optim, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay
        )
        if settings.optimizer.startswith("schedule_free"):
            plan.callbacks.append(_settle_at_the_end)
        if entry is not None:
            plan.optimizer.fill(lambda model: self._make(model, entry, plan), by=self.name)

    def _make(self, model: nn.Module, entry: Entry, plan: TrainPlan) -> Optimizer:
        from newt.training.optimizers import Wanted, make_optimizer

        settings = self.settings
        args = {name: coerce(name, value) for name, value in read_args(settings.optim_args).items()}
        numbers = self.numbers(entry, args)
        options = {**entry.fixed, **{name: value for name, value in args.items() if name in entry.args}}
        matrices = entry.kind == "matrices"
        wanted = Wanted(
            name=settings.optimizer,
            entry=entry,
            rate=settings.learning_rate,
            decay=settings.weight_decay,
            options={**options, **(self._dion() if settings.optimizer == "dion" else {} if matrices else numbers)},
            target={name: args.get(name, default) for name, default in entry.target.items()},
            modules=settings.optim_target_modules,
            others=numbers,
            matrix_rate=self.cfg.value("dion_lr") if settings.optimizer == "dion" else None,
            folder=settings.torchdistx_path,
            in_backward=bool(self.cfg.value("optimizer_in_bwd")),
        )
        return make_optimizer(model, wanted, plan.groups.get())

    def numbers(self, entry: Entry, args: Mapping[str, Any]) -> dict[str, Any]:
        """``betas`` and ``eps`` as its class takes them: from the keys, else from ``optim_args``, else its defaults."""

        def one(key: str, default: float) -> float:
            given = getattr(self.settings, key)
            return float(args.get(IN_ARGS[key], default) if given is None else given)

        betas = tuple(one(key, default) for key, default in zip(NUMBERS[:3], entry.betas, strict=False))
        eps = tuple(one(key, default) for key, default in zip(NUMBERS[3:], entry.eps, strict=False))
        found: dict[str, Any] = {"betas": betas} if betas else {}
        return found | ({"eps": eps if len(eps) > 1 else eps[0]} if eps else {})

    def _dion(self) -> dict[str, Any]:
        momentum = self.cfg.value("dion_momentum")
        return {
            "momentum": 0.95 if momentum is None else momentum,
            "rank_fraction": self.cfg.value("dion_rank_fraction"),
            "rank_multiple_of": self.cfg.value("dion_rank_multiple_of"),
        }


def _settle_at_the_end() -> Any:
    from newt.training.averaging import Settle

    return Settle()


def read_args(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """``optim_args`` as a mapping.

    Raises:
        ValueError: a text is not of the form ``name=value,name=value``.
    """
    if not isinstance(value, str):
        return dict(value or {})
    pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not name=value")
    return {name.strip(): text.strip() for name, _, text in pairs}


def coerce(name: str, value: Any) -> Any:
    """An argument as a value of its type; texts are read.

    Raises:
        ValueError: it is none.
    """
    kind = TYPES.get(name, float)
    text = str(value).strip()
    if kind is str:
        if name.endswith("_dtype") and text not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"{name} must be float32, bfloat16 or float16, not {value!r}")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(f"{name} must be true or false, not {value!r}")
        return text.lower() in ("true", "1", "yes")
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {value!r}") from None
    if isinstance(value, bool) or not math.isfinite(number) or (kind is int and number != int(number)):
        raise ValueError(f"{name} must be a {'whole ' if kind is int else ''}number, not {value!r}")
    return int(number) if kind is int else number
