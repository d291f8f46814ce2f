"""Keys that have another name today, keys that are gone, and slips that are easy to make."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from newt.config.section import Problem, Where
from newt.config.source import Source, join


@dataclass(frozen=True)
class Rename:
    """Where an older spelling went.

    Attributes:
        new: the key to use.
        deprecated: say so; otherwise both spellings are equally good.
        gives_way: where both are given, the older one is ignored with a warning; otherwise they must agree.
    """

    new: str
    deprecated: bool = True
    gives_way: bool = False

    def conflict(self, old: str, place: Where | None) -> Problem:
        """What to say when both spellings have a value, and not the same."""
        if self.gives_way:
            return Problem((old, self.new), f"is ignored: {self.new} is given.", "Remove it.", place, "warning")
        return Problem((old, self.new), f"is another name of {self.new}, which has another value.", "Keep one.", place)


RENAMED: Mapping[str, Rename] = {
    "model_config": Rename("overrides_of_model_config", deprecated=False),
    "model_kwargs": Rename("overrides_of_model_kwargs", deprecated=False),
    "model_type": Rename("type_of_model", deprecated=False),
    "model_revision": Rename("revision_of_model", deprecated=False),
    "dpo_beta": Rename("rl_beta"),
    "evaluation_strategy": Rename("eval_strategy"),
    "noisy_embedding_alpha": Rename("neftune_noise_alpha"),
    "sequence_parallel_degree": Rename("context_parallel_size"),
    "dataset_processes": Rename("dataset_num_proc", gives_way=True),
    "pretrain_multipack_buffer_size": Rename("streaming_multipack_buffer_size"),
    "liger_swiglu": Rename("liger_glu_activation"),
}
"""Older spelling -> today's key. A key that a section owns is never renamed."""

_UNSLOTH = "is gone. Remove it, and use lora_mlp_kernel, lora_qkv_kernel and lora_o_kernel."

NESTED_RENAMED: Mapping[str, Mapping[str, Rename]] = {
    "fsdp_config": {
        "fsdp_version": Rename("version", deprecated=False),
        **{
            f"fsdp_{name}": Rename(name)
            for name in (
                "activation_checkpointing", "offload_params", "cpu_offload_pin_memory", "cpu_ram_efficient_loading",
                "state_dict_type", "final_state_dict_type", "auto_wrap_policy", "transformer_layer_cls_to_wrap",
                "min_num_params", "reshard_after_forward", "mixed_precision_policy", "use_orig_params",
                "sync_module_states", "sharding_strategy", "backward_prefetch", "backward_prefetch_policy",
                "forward_prefetch", "limit_all_gathers",
            )
        },
    },
}  # fmt: skip
"""Block -> the same for the keys in it."""

REMOVED: Mapping[str, str] = {
    "s2_attention": "is gone: shifted sparse attention is no longer supported. Remove it.",
    "flash_attn_rms_norm": "is gone. Remove it, or use liger_rms_norm.",
    "max_packed_sequence_len": "is gone. Set sequence_len and sample_packing: true.",
    "rope_scaling": "is gone from the top level. Write it under model_config.",
    "unsloth_cross_entropy_loss": _UNSLOTH,
    "unsloth_lora_mlp": _UNSLOTH,
    "unsloth_lora_qkv": _UNSLOTH,
    "unsloth_lora_o": _UNSLOTH,
    "unsloth_rms_norm": _UNSLOTH,
    "unsloth_rope": _UNSLOTH,
}
"""Key -> what to do instead."""

MISTAKEN: Mapping[str, str] = {
    "lr": "learning_rate",
    "epochs": "num_epochs",
    "num_train_epochs": "num_epochs",
    "model": "base_model",
    "model_name_or_path": "base_model",
    "dataset": "datasets",
    "max_seq_length": "sequence_len",
    "max_length": "sequence_len",
    "per_device_train_batch_size": "micro_batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "packing": "sample_packing",
    "lr_scheduler_type": "lr_scheduler",
    "optim": "optimizer",
    "train_on_split": "split",
    "subset": "name",
    "target_modules": "lora_target_modules",
}
"""A name from other tools, too far from ours for a comparison of letters -> ours."""


def todays_name(parts: tuple[str, ...], owned: Container[str]) -> tuple[str, ...]:
    """A dotted key in parts with today's names in it.

    Args:
        parts: ("fsdp_config", "fsdp_offload_params").
        owned: keys that sections own; they are never renamed.
    """
    first, *rest = parts
    if first in RENAMED and first not in owned:
        first = RENAMED[first].new
    if rest and rest[0] in NESTED_RENAMED.get(first, {}):
        rest[0] = NESTED_RENAMED[first][rest[0]].new
    return (first, *rest)


def rename(found: Source, owned: Container[str]) -> dict[str, str]:
    """Give a file's older spellings today's names, with the warnings and conflicts that this brings.

    Args:
        found: the file; changed in place.
        owned: keys that sections own.

    Returns:
        Today's name -> the older spelling that the user wrote, for top-level keys.
    """
    values, written = found.values or {}, {}
    for old in [old for old in values if old in RENAMED and old not in owned]:
        rule, value = RENAMED[old], values.pop(old)
        if value is None:
            continue
        place = found.where(old)
        if rule.deprecated and rule.new in owned:
            message = f"is now called {rule.new}."
            found.problems.append(Problem((old,), message, where=place, kind="warning"))
        present = values.get(rule.new)
        if present is not None:
            if present != value:
                found.problems.append(rule.conflict(old, place))
            continue
        values[rule.new] = value
        written[rule.new] = old
        found.move(old, rule.new)
    for block in NESTED_RENAMED:
        if block in owned and isinstance(values.get(block), dict):
            _rename_in(block, values[block], found)
    return written


def _rename_in(block: str, values: dict[Any, Any], found: Source) -> None:
    for old in [old for old in values if old in NESTED_RENAMED[block]]:
        rule, value = NESTED_RENAMED[block][old], values.pop(old)
        if value is None:
            continue
        place = found.where(join(block, old))
        if rule.deprecated:
            message = f"is now called {rule.new}."
            found.problems.append(Problem((join(block, old),), message, where=place, kind="warning"))
        present = values.get(rule.new)
        if present is None:
            values[rule.new] = value
            found.move(join(block, old), join(block, rule.new))
        elif present != value:
            message = f"is another name of {rule.new}, which has another value."
            keys = (join(block, old), join(block, rule.new))
            found.problems.append(Problem(keys, message, "Keep one of them.", place))
