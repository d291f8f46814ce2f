"""What all preference and reinforcement methods have in common."""

from __future__ import annotations

from collections.abc import Iterable

from newt.config.core import Batch, Objective
from newt.config.rl import Reinforcement
from newt.config.section import Config, Problem
from newt.extend import Feature

ONLINE = ("grpo", "gdpo", "ebft")
"""Methods that sample answers in training."""
_OFFLINE_TOO = ("beta", "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps", "max_completion_length")


class Rl(Feature):
    """Keys and limits that do not depend on the method."""

    name = "rl"
    Settings = (Reinforcement,)
    off = "rl is not set"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when a method is chosen."""
        return cfg[Objective].rl is not None

    def check(self) -> Iterable[Problem]:
        """One beta, room for an answer, no packing, and no sampling without a method that samples."""
        settings = self.cfg[Reinforcement]
        beta = settings.trl.beta if settings.trl else None
        if beta is not None and settings.rl_beta is not None and beta != settings.rl_beta:
            yield self.problem(("rl_beta", "trl.beta"), f"differs from trl.beta ({beta}).", "Keep one of them.")
        for key in ("sample_packing", "eval_sample_packing"):
            if self.cfg.value(key):
                yield self.problem((key, "rl"), "cannot be used with rl: each pair or prompt is a row of its own.")
        length = self.cfg[Batch].sequence_len
        if settings.max_prompt_len is not None and settings.max_prompt_len >= length:
            message = f"leaves no room for an answer: sequence_len is {length}."
            yield self.problem(("max_prompt_len", "sequence_len"), message, "Make it smaller.")
        yield from self._check_sampling()
        yield from self._check_reentrant()

    def _check_sampling(self) -> Iterable[Problem]:
        rl, settings = self.cfg[Objective].rl, self.cfg[Reinforcement]
        if rl in ONLINE:
            return
        message = f"has no effect: rl: {rl} samples no answers."
        if settings.vllm is not None:
            yield self.problem("vllm", message, "Remove it.")
        for key, field in type(settings.trl).model_fields.items() if settings.trl else ():
            given = f"trl.{key}" in self.cfg.given and getattr(settings.trl, key) not in (None, False, field.default)
            if given and key not in _OFFLINE_TOO:
                yield self.problem(f"trl.{key}", message, "Remove it.")

    def _check_reentrant(self) -> Iterable[Problem]:
        """Reentrant checkpointing, a quantized base and several processes: gradients are reduced twice."""
        kwargs = self.cfg.value("gradient_checkpointing_kwargs") or {}
        several = self.facts.known and self.facts.gpus > 1
        if several and self.cfg.value("adapter") == "qlora" and kwargs.get("use_reentrant") is True:
            message = "use_reentrant: true cannot be used with rl, QLoRA and several GPUs."
            yield self.problem("gradient_checkpointing_kwargs", message, "Set use_reentrant: false.")
