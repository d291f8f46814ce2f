"""What makes two runs the same run: settings, data and number of processes. Torch-free."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from newt.config.core import Cadence, Data, Loader, Template
from newt.config.section import Config

HARMLESS = frozenset(
    {
        *Cadence.model_fields,
        # Rows and their order are compared through the fingerprint of the prepared data.
        *Data.model_fields,
        *Template.model_fields,
        *(set(Loader.model_fields) - {"dataloader_drop_last"}),
        # Where and how long it runs.
        *("output_dir", "num_epochs", "max_steps", "resume_from_checkpoint", "auto_resume_from_checkpoints"),
        *("overwrite_output_dir", "strict", "debug", "report_samples", "lora_model_dir"),
        # Memory for time: the numbers are the same.
        *("gradient_checkpointing", "gradient_checkpointing_kwargs", "auto_find_batch_size"),
        *("eval_batch_size", "eval_sequence_len", "eval_sample_packing"),
        *("tokenizer_config", "tokenizer_type", "tokenizer_use_fast", "special_tokens", "tokens"),
    }
)
"""Keys that may differ when a run goes on: they do not touch what a step computes, or only how many steps there are."""

SAMPLED = 2000
"""Rows whose content is looked at."""

HARMLESS_PREFIXES = (
    *("wandb_", "use_wandb", "mlflow_", "use_mlflow", "hf_mlflow_", "comet_", "use_comet", "hub_", "trackio_", "push_"),
    *("use_trackio", "swanlab_", "use_swanlab", "use_tensorboard", "otel_", "use_otel_", "profiler_", "generat"),
    *("num_generation_", "eval_table_", "eval_max_new_", "do_causal_lm_", "eval_causal_lm_", "do_bench_", "bench_"),
    *("dynamic_checkpoint", "loss_watchdog_", "gc_", "torch_empty_cache_", "early_stopping_"),
)


def fingerprint(cfg: Config, data: Any, world: int) -> dict[str, Any]:
    """Settings that decide what a step computes.

    Args:
        cfg: the config.
        data: the training rows.
        world: number of processes.
    """
    settings = {
        key: value
        for key, value in cfg.to_dict().items()
        if key not in HARMLESS and not key.startswith(HARMLESS_PREFIXES)
    }
    # Through JSON, so that it equals what is read back from a checkpoint.
    content = {"settings": settings, "training data": data_fingerprint(data), "number of processes": world}
    normal: dict[str, Any] = json.loads(json.dumps(content, sort_keys=True, default=str))
    return normal


def data_fingerprint(data: Any) -> str:
    """Hash of the length of every row and the content of ``SAMPLED`` of them, in their order.

    It looks at the rows and not at how they were made, so that a moved file or a newer version does not matter.
    """
    identity: str | None = getattr(data, "identity", None)  # of a stream, which has no lengths
    if identity is not None:
        return identity
    digest = hashlib.sha256(data.lengths.astype("<i4").tobytes())
    for index in range(0, len(data), max(1, len(data) // SAMPLED)):
        row = data[index]
        digest.update(row["input_ids"].tobytes() + row["labels"].tobytes())
    return digest.hexdigest()


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of what differs between two fingerprints, sorted."""
    before, after = saved.get("settings", {}), now["settings"]
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    return keys + [name for name in now if name != "settings" and saved.get(name) != now[name]]
