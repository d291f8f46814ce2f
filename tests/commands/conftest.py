"""A config on disk for the tiny model, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from newt.cli import main


@pytest.fixture
def write_config(model_dir: Path, chat_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a small LoRA config (with changes) and returns its path; everything it makes is below ``tmp_path``."""

    def write(**changes: Any) -> Path:
        keys: dict[str, Any] = {
            "base_model": str(model_dir),
            "datasets": [{"path": str(chat_file), "type": "chat_template"}],
            "val_set_size": 8,
            "sequence_len": 128,
            "sample_packing": True,
            "adapter": "lora",
            "lora_r": 4,
            "lora_alpha": 8,
            "lora_target_linear": True,
            "micro_batch_size": 2,
            "gradient_accumulation_steps": 1,
            "max_steps": 4,
            "learning_rate": 0.01,
            "optimizer": "adamw_torch",
            "float32": True,
            "dataset_num_proc": 1,
            "dataset_prepared_path": str(tmp_path / "prepared"),
            "output_dir": str(tmp_path / "run"),
        }
        path = tmp_path / "config.yml"
        path.write_text(yaml.safe_dump({k: v for k, v in {**keys, **changes}.items() if v is not None}))
        return path

    return write


@pytest.fixture
def newt(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return int(end.value.code or 0), streams.out, streams.err

    return run
