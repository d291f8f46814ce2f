"""Fully sharded data parallelism."""

from __future__ import annotations

from collections.abc import Iterable

from newt.config.parallel import Fsdp as FsdpSettings
from newt.config.section import Config, Problem
from newt.extend import Feature

REMOVED_IN_2 = (
    "use_orig_params", "sync_module_states", "backward_prefetch", "backward_prefetch_policy", "forward_prefetch",
    "limit_all_gathers",
)  # fmt: skip
"""Options of version 1 that version 2 has no use for."""

QUANTIZED_PREFERENCE = ("dpo", "kto", "orpo", "ipo")


class Fsdp(Feature):
    """Shards the model."""

    name = "fsdp"
    Settings = (FsdpSettings,)
    off = "fsdp_config is not set"
    switches = ("fsdp", "fsdp_config")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of its blocks is given."""
        return cfg[FsdpSettings].on

    @property
    def settings(self) -> FsdpSettings:
        """The keys of this feature."""
        return self.cfg[FsdpSettings]

    def check(self) -> Iterable[Problem]:
        """One version, options that it has, and companions that it takes."""
        yield from self._check_version()
        yield from self._check_options()
        yield from self._check_optimizer()
        yield from self._check_method()
        yield from self._check_model()

    def _check_version(self) -> Iterable[Problem]:
        settings, options = self.settings, self.settings.options
        if settings.fsdp_version and options.version and settings.fsdp_version != options.version:
            message = f"is {settings.fsdp_version}, and fsdp_config.version is {options.version}."
            yield self.problem(("fsdp_version", "fsdp_config.version"), message, "Keep one of them.")
        if settings.fsdp:
            yield self.problem("fsdp", "is an older switch.", "Keep fsdp_config and remove it.", kind="warning")
        if settings.version == 1:
            keys = ("fsdp_version", "fsdp_config", "fsdp")
            yield self.problem(keys, "FSDP 1 is on its way out.", "Set fsdp_version: 2.", kind="warning")
        final = settings.fsdp_final_state_dict_type
        if final:
            key = "fsdp_final_state_dict_type"
            if options.final_state_dict_type not in (None, final):
                message = f"is {final}, and fsdp_config.final_state_dict_type is {options.final_state_dict_type}."
                yield self.problem(key, message, "Remove it.")
            else:
                hint = "Write it in fsdp_config as final_state_dict_type."
                yield self.problem(key, "is an older place.", hint, kind="warning")

    def _check_options(self) -> Iterable[Problem]:
        options, version = self.settings.options, self.settings.version
        if options.cpu_offload_pin_memory is False:
            key = "fsdp_config.cpu_offload_pin_memory"
            if version != 2:
                yield self.problem(key, "false needs FSDP 2.", "Set fsdp_version: 2.")
            if not options.offload_params:
                yield self.problem(key, "false needs offload_params.", "Set offload_params: true.")
        if options.auto_wrap_policy == "SIZE_BASED_WRAP" and not options.min_num_params:
            yield self.problem("fsdp_config.auto_wrap_policy", "SIZE_BASED_WRAP needs min_num_params.")
        if options.activation_checkpointing and self.cfg.value("gradient_checkpointing"):
            yield self.problem(
                ("fsdp_config.activation_checkpointing", "gradient_checkpointing"),
                "cannot be used with gradient_checkpointing.",
                "Keep one of them.",
            )
        for key in REMOVED_IN_2 if version == 2 else ():
            needed = key == "use_orig_params" and self.cfg.value("optimizer") == "q_galore_adamw8bit"
            if getattr(options, key) is not None and not needed:
                yield self.problem(f"fsdp_config.{key}", "has no effect with FSDP 2.", "Remove it.", kind="warning")
        if version == 2 and options.sharding_strategy is not None:
            hint = "FULL_SHARD is reshard_after_forward: true, SHARD_GRAD_OP is false."
            yield self.problem("fsdp_config.sharding_strategy", "has no effect with FSDP 2.", hint, kind="warning")

    def _check_optimizer(self) -> Iterable[Problem]:
        optimizer, version = str(self.cfg.value("optimizer")), self.settings.version
        keys = ("optimizer", "fsdp_version", "fsdp_config")
        if version == 2 and optimizer in ("adamw_8bit", "adamw_bnb_8bit"):
            yield self.problem(keys, f"{optimizer} cannot be used with FSDP 2.", "Use adamw_torch_8bit.")
        if version == 1 and self.settings.options.offload_params and "8bit" in optimizer:
            yield self.problem(keys, f"{optimizer} cannot be used with offload_params of FSDP 1.", "Use adamw_torch.")
        if version == 1 and optimizer == "muon":
            yield self.problem(keys, "muon needs FSDP 2.", "Set fsdp_version: 2.")
        if optimizer == "q_galore_adamw8bit" and not self.settings.options.use_orig_params:
            yield self.problem(keys, f"{optimizer} needs whole parameters.", "Set fsdp_config.use_orig_params: true.")

    def _check_method(self) -> Iterable[Problem]:
        quantized = next((key for key in ("load_in_8bit", "load_in_4bit") if self.cfg.value(key)), None)
        method = self.cfg.value("rl")
        if quantized and self.settings.version == 2 and method in QUANTIZED_PREFERENCE:
            yield self.problem(
                (quantized, "rl", "fsdp_version"),
                f"cannot be used with rl: {method} and FSDP 2.",
                "Use DeepSpeed, or fsdp_version: 1.",
            )

    def _check_model(self) -> Iterable[Problem]:
        kind = self.facts.model_type or ""
        keys = ("fsdp_config", "fsdp")
        if kind.startswith("gemma4") and self.settings.version == 1 and self.cfg.value("adapter") == "qlora":
            yield self.problem(keys, "FSDP 1 cannot be used with qlora on Gemma 4.", "Set fsdp_version: 2.")
