"""``run.json``: what was run, with what, and how it ended."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from newt.config.core import Batch
from newt.config.secrets import redacted
from newt.config.section import Config
from newt.support.files import write_atomically

NAME = "run.json"
PACKAGES = ("newt-tune", "torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "numpy")


class Record:
    """The file, written at the start of a run and again at its end."""

    def __init__(self, output_dir: Path, cfg: Config, datasets: Any, model: Any) -> None:
        """Collect what is known at the start.

        Args:
            output_dir: folder of the run.
            cfg: the config.
            datasets: the data of the run; its ``summary`` (and ``fingerprint``) go into the record if it has them.
            model: its parameters are counted.
        """
        self.path = output_dir / NAME
        self.datasets = datasets
        self.content: dict[str, Any] = {
            "started": _now(),
            "ended": None,
            "result": None,
            "config": redacted(cfg.to_dict()),
            "given": sorted(cfg.given),
            "config_file": str(cfg.source) if cfg.source else None,
            "data": data_summary(datasets),
            "model": parameters(model),
            **_found_batch(cfg[Batch]),
            "versions": versions(),
            "git_commit": git_commit(cfg.source.parent if cfg.source else Path.cwd()),
            "hardware": hardware(),
        }

    def start(self, from_step: int, earlier_seconds: float = 0.0) -> None:
        """Write the file.

        Args:
            from_step: optimizer steps that are done.
            earlier_seconds: what the parts of the run before this one took.
        """
        self.content["earlier_seconds"] = earlier_seconds
        self.content["resumed_from_step"] = from_step or None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def end(self, result: dict[str, Any]) -> None:
        """Write how the run ended."""
        self.content["ended"], self.content["result"] = _now(), result
        self.content["data"] = data_summary(self.datasets)  # of a stream, more is known now
        self._write()

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(_jsonable(self.content), indent=1) + "\n")


def _found_batch(batch: Batch) -> dict[str, Any]:
    """What ``auto_find_batch_size`` found, or tries."""
    if not batch.auto_find_batch_size:
        return {}
    keys = {"micro_batch_size": batch.micro, "gradient_accumulation_steps": batch.accumulation}
    return {"auto_find_batch_size": keys}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """The commit that a folder is at, with ``+`` if files were changed; None outside a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+" if commit and _git(folder, "status", "--porcelain", "-uno") else "") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor, memory and GPUs."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus],
    }


def parameters(model: Any) -> dict[str, Any]:
    """How many parameters the model has, and how many of them are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {
        "class": type(model).__name__,
        "total_parameters": sum(size for size, _ in sizes),
        "trainable_parameters": sum(size for size, trained in sizes if trained),
    }


def data_summary(datasets: Any) -> dict[str, Any]:
    """The summary of prepared data, and its fingerprint."""
    if datasets is None:
        return {}
    return {**datasets.summary.to_dict(), "fingerprint": datasets.fingerprint}


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
