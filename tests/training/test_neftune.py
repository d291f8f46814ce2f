"""NEFTune in a run: noise in training, none in evaluation and in the saved weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import Data, Rows, load, make
from torch import Tensor

from newt.training.fit import fit


def losses(trainer: Any, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("lora", [False, True])
def test_noise_is_in_training_alone(model_dir: Path, tmp_path: Path, lora: bool) -> None:
    runs: dict[str, Any] = {}
    for name, alpha in (("plain", None), ("noisy", 5.0)):
        # Nothing is learned, so that whatever differs is the noise.
        args = {"learning_rate": 0.0, "weight_decay": 0.0, "neftune_noise_alpha": alpha}
        data = Data(Rows(24), Rows(6, seed=1))
        options = {"data": data, "lora": lora, "dropout": 0.0, "logging_steps": 1, "eval_steps": 1, "max_steps": 2}
        trainer, cfg = make(model_dir, tmp_path / name, args=args, **options, save_steps=1)
        fit(trainer, cfg)
        runs[name] = trainer
    plain, noisy = runs["plain"], runs["noisy"]
    assert losses(plain, "loss") != losses(noisy, "loss")
    assert losses(plain, "eval_loss")[:2] == losses(noisy, "eval_loss")[:2]
    assert noisy.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    saved = [load_file(tmp_path / name / "checkpoint-1" / file) for name in runs]
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(value, saved[1][name]) for name, value in saved[0].items())


def test_the_embeddings_are_as_before_after_a_run(model_dir: Path, tmp_path: Path) -> None:
    args = {"learning_rate": 0.0, "neftune_noise_alpha": 5.0}
    trainer, cfg = make(model_dir, tmp_path, args=args, dropout=0.0, max_steps=1)
    fit(trainer, cfg)
    ids: Tensor = torch.arange(3, 19)[None]
    trainer.model.train()
    first, again = (trainer.model.get_input_embeddings()(ids) for _ in range(2))
    expected = load(model_dir).model.get_input_embeddings()(ids)
    assert torch.equal(first, again), "no noise any more, not even in training mode"
    assert torch.equal(first.cpu(), expected)
