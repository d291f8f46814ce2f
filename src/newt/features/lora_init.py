"""How the matrices of a LoRA adapter begin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

FROM_DATA = ("eva", "corda", "lora_ga")
"""Ways to begin that are computed from training data."""
OTHER_ROWS = ("rl", "reward_model", "process_reward_model", "kd_trainer", "streaming", "pretraining_dataset")
"""Keys with which the training data are no prepared supervised rows."""
SHARDING = ("deepspeed", "fsdp", "fsdp_config", "tensor_parallel_size")
"""Keys with which no process has whole weights."""
CHANGES_BASE = ("corda", "lora_ga", "loftq")
"""Ways to begin that change weights of the base, each once."""


class LoftqConfig(Section):
    """``peft.loftq_config``."""

    loftq_bits: Literal[2, 4, 8] = 4
    """Bits of the quantized weights that the adapter makes up for: 4 or 8."""


class PeftSettings(Section):
    """``peft``: further settings of adapters."""

    loftq_config: LoftqConfig | None = None
    """LoftQ: begin with matrices that make up for the error of quantization."""


class LoraInitSettings(Section):
    """Keys of the beginning."""

    peft_init_lora_weights: bool | str | None = None
    """How the matrices begin: ``true`` (no effect at first), ``gaussian``, ``orthogonal``, ``pissa``,
    ``pissa_niter_N`` (N rounds of a fast decomposition), ``olora``, ``loftq``; from training data ``eva``, ``corda``,
    ``lora_ga``."""
    peft: PeftSettings | None = None
    """Further settings of adapters: ``loftq_config``."""


class LoraInit(Feature):
    """Checks the beginning; the adapter itself is made by the feature lora."""

    name = "lora init"
    Settings = (LoraInitSettings,)
    off = "adapter is not set"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when there is an adapter."""
        return cfg.value("adapter") is not None

    @property
    def settings(self) -> LoraInitSettings:
        """The keys of this feature."""
        return self.cfg[LoraInitSettings]

    def check(self) -> Iterable[Problem]:
        """A known beginning, and a model and data that it can be had from."""
        settings, key = self.settings, "peft_init_lora_weights"
        init, rank = settings.peft_init_lora_weights, self.cfg.value("lora_r")
        known = r"gaussian|pissa(_niter_\d+)?|olora|orthogonal|loftq|" + "|".join(FROM_DATA)
        if isinstance(init, str) and not re.fullmatch(known, init):
            hint = "Valid: true, gaussian, pissa, pissa_niter_N, olora, orthogonal, loftq, eva, corda, lora_ga."
            yield self.problem(key, f"unknown initialization {init!r}.", hint)
        elif init == "orthogonal" and rank and rank % 2:
            yield self.problem(key, f"orthogonal needs an even lora_r, not {rank}.")
        if settings.peft and settings.peft.loftq_config and init not in (None, True, "loftq"):
            message = "cannot be used with peft.loftq_config, which chooses the beginning itself."
            yield self.problem((key, "peft"), message, "Remove one.")
        begin = "loftq" if self._loftq else init
        if begin in FROM_DATA and self.cfg.value("lora_model_dir") is None:
            yield from self._check_from_data(str(begin))
        if begin in CHANGES_BASE:
            yield from self._check_changed_base(str(begin))

    @property
    def _loftq(self) -> bool:
        settings = self.settings
        return settings.peft_init_lora_weights == "loftq" or bool(settings.peft and settings.peft.loftq_config)

    def _check_from_data(self, begin: str) -> Iterable[Problem]:
        """The rows are there when the model is built, and its weights are whole."""
        key = "peft_init_lora_weights"
        for other in (*OTHER_ROWS, *SHARDING):
            if self.cfg.value(other):
                what = "whole weights" if other in SHARDING else "prepared rows of supervised fine-tuning"
                message = f"{begin} needs {what}, which {other} does not have."
                yield self.problem((key, other), message, "Use pissa, olora or gaussian.", kind="unsupported")
        if self.cfg.value("lora_target_parameters"):
            message = f"{begin} is for linear layers, and lora_target_parameters are none."
            yield self.problem((key, "lora_target_parameters"), message, "Remove one.")

    def _check_changed_base(self, begin: str) -> Iterable[Problem]:
        """The weights of a base that is changed are there in full, once for each adapter."""
        key = "peft" if self.settings.peft else "peft_init_lora_weights"
        loftq = self.settings.peft and self.settings.peft.loftq_config
        if loftq and loftq.loftq_bits == 2:
            yield self.problem(key, "loftq_bits: 2 is not offered, as in peft.", "Use 4 or 8.")
        quantized = [other for other in ("load_in_4bit", "load_in_8bit") if self.cfg.value(other)]
        if self.cfg.value("adapter") == "qlora":
            quantized = ["adapter"]
        for other in quantized if begin == "loftq" else ():
            how = "adapter: qlora" if other == "adapter" else other
            yield self.problem((key, other), f"LoftQ quantizes the base itself, not with {how}.", "Remove one.")
        if self.cfg.value("peft_layer_replication"):
            message = f"{begin} changes the base's weights, which repeated layers share."
            yield self.problem((key, "peft_layer_replication"), message, "Remove one.")
