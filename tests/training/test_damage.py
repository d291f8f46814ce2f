"""Checkpoints of runs with more state than usual: damage to any of their files is seen, and never trained on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.training.test_checkpoints import harm
from tests.training.tiny import same

from newt import api
from newt.support.errors import CheckpointError
from newt.support.files import MANIFEST
from newt.training import checkpoints

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_modules": ["q_proj", "down_proj"]}
KINDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "restarted adapter": (
        {**LORA, "relora": True, "jagged_restart_steps": 2, "jagged_restart_warmup_steps": 1},
        {"relora/model.safetensors", "adapter_model.safetensors", "adapter_config.json"},
    ),
    "quantized base": ({**LORA, "adapter": "qlora", "load_in_4bit": True}, {"quantized_base.json"}),
    "optimizer in the backward pass": (
        {"optimizer_in_bwd": True, "max_grad_norm": 0},
        {"model.safetensors", "optimizer.pt"},
    ),
    "batch size that was found": ({"auto_find_batch_size": True}, {"fingerprint.json"}),
    "filtered gradients": ({**LORA, "plugins": ["GrokfastPlugin"]}, {"grokfast.safetensors"}),
    "template and new tokens": (
        {"tokens": ["<new>"], "chat_template": "chatml", "tokenizer_save_jinja_files": True},
        {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"},
    ),
}
Train = Callable[..., Path]


@pytest.fixture
def train(model_dir: Path, chat_file: Path, tmp_path: Path) -> Train:
    """Trains four steps with a checkpoint after each second; returns the folder."""

    def run(name: str, **changes: Any) -> Path:
        keys = {
            "base_model": str(model_dir), "datasets": [{"path": str(chat_file), "type": "chat_template"}],
            "sequence_len": 128, "micro_batch_size": 2, "gradient_accumulation_steps": 1, "max_steps": 4,
            "learning_rate": 1e-2, "float32": True, "report_samples": 0, "dataset_num_proc": 1, "save_steps": 2,
            "dataset_prepared_path": str(tmp_path / "prepared"), "output_dir": str(tmp_path / name), **changes,
        }  # fmt: skip
        api.train(keys)
        return tmp_path / name

    return run


def weights(folder: Path) -> dict[str, Any]:
    return {
        f"{file.relative_to(folder)} {name}": tensor
        for file in folder.rglob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_damage_to_any_file_is_seen_and_the_run_goes_on_from_the_one_before(
    train: Train, tmp_path: Path, kind: str
) -> None:
    keys, expected = KINDS[kind]
    out = train("run", **keys)
    last = out / "checkpoint-4"
    whole = weights(last)
    names = {path.relative_to(last).as_posix() for path in last.rglob("*") if path.is_file() and path.stat().st_size}
    assert expected <= names
    for name in names:
        for how in ("delete", "truncate", "flip"):
            content = (last / name).read_bytes()
            harm(last / name, how)
            assert checkpoints.newest_valid(out)[0] == out / "checkpoint-2", (name, how)
            (last / name).write_bytes(content)
    assert checkpoints.damage(last) == [], "all is as it was"
    for name in sorted(expected)[:1]:
        harm(last / name, "flip")
        train("run", auto_resume_from_checkpoints=True, **keys)
        assert same(whole, weights(last)), "the same weights again"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_never_saved_is_missed(train: Train, tmp_path: Path, kind: str) -> None:
    """A manifest that agrees with the folder: of the weights and states that a step needs, none begins anew."""
    from newt.support.files import write_manifest

    keys, expected = KINDS[kind]
    out = train("run", **keys)
    for name in sorted(name for name in expected if name.endswith((".safetensors", ".pt"))):
        other = tmp_path / "other"
        shutil.copytree(out / "checkpoint-2", other / "checkpoint-2")
        (other / "checkpoint-2" / name).unlink()
        (other / "checkpoint-2" / MANIFEST).unlink()
        write_manifest(other / "checkpoint-2")
        with pytest.raises(CheckpointError, match="checkpoint-2"):
            train("other", auto_resume_from_checkpoints=True, **keys)
        assert not (other / "checkpoint-4").exists()
        shutil.rmtree(other)
