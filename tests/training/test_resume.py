"""A run that goes on from a checkpoint of weights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from tests.training.tiny import Data, Rows, config, run
from transformers import TrainerCallback

from newt.support.errors import CheckpointError
from newt.training import checkpoints
from newt.training.resume import find_start

OPTIONS = {"num_epochs": 2, "packed": False, "data": Data(Rows(16)), "save_steps": 2, "lora": True}


@pytest.fixture(scope="module")
def finished(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps with full checkpoints."""
    out = tmp_path_factory.mktemp("run") / "out"
    run(model_dir, out, **OPTIONS)
    return out


def test_a_checkpoint_of_weights_alone_is_refused_unless_the_config_wants_them(model_dir: Path, out: Path) -> None:
    run(model_dir, out, save_only_model=True, **OPTIONS)
    for value, message in (
        (
            str(out / "checkpoint-8"),
            r"checkpoint-8 cannot be used: it holds weights alone \(save_only_model\)\. .*fresh optimizer, set",
        ),
        (True, r"(?s)No checkpoint in .* can be used:.*fresh optimizer, set save_only_model: true"),
    ):
        with pytest.raises(CheckpointError, match=message):
            find_start(config(out, resume_from_checkpoint=value))
        start = find_start(config(out, resume_from_checkpoint=value, save_only_model=True))
        assert (start.step, start.weights_alone, start.skipped) == (8, True, ())
    with pytest.raises(CheckpointError, match="can be used"):
        find_start(config(out, auto_resume_from_checkpoints=True))
    (out / "checkpoint-8" / "adapter_model.safetensors").write_bytes(b"cut")
    start = find_start(config(out, auto_resume_from_checkpoints=True, save_only_model=True))
    assert (start.step, len(start.skipped)) == (6, 1), "damage is damage"


@pytest.mark.parametrize("schedule", ["cosine", "reduce_lr_on_plateau"])
def test_a_run_goes_on_from_weights_alone_at_its_step(
    model_dir: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], schedule: str
) -> None:
    options = {**OPTIONS, "save_only_model": True, "save_steps": 3, "logging_steps": 1, "dropout": 0.0}
    options |= {"data": Data(Rows(16), Rows(4, 2)), "args": {"lr_scheduler_type": schedule}, "eval_steps": 3}
    _, whole = run(model_dir, out, **options)
    for step in (6, 8):
        checkpoints.remove(out / f"checkpoint-{step}")
    saved = load_file(out / "checkpoint-3" / "adapter_model.safetensors")
    capsys.readouterr()

    class Looked(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 3:
                self.seen = get_peft_model_state_dict(model)[weight].detach().clone()

    weight, looked = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", Looked()
    outcome, resumed = run(model_dir, out, auto_resume_from_checkpoints=True, callbacks=[lambda: looked], **options)
    said = capsys.readouterr().err
    assert "checkpoint-3 (step 3)" in said
    assert f"warning: {out / 'checkpoint-3'} holds weights alone (save_only_model)" in said
    assert outcome.global_step == 8
    assert resumed.counts == whole.counts, "tokens are counted on"
    assert torch.equal(looked.seen, saved[weight])
    rates = [{e["step"]: e["learning_rate"] for e in t.state.log_history if "loss" in e} for t in (whole, resumed)]
    assert list(rates[1]) == list(range(1, 9)), "the log of the steps before is kept"
    assert rates[0] == pytest.approx(rates[1], rel=1e-6)
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (whole, resumed)]
    assert losses[0][3] == pytest.approx(losses[1][3], rel=1e-5), "the same batch on the same weights"


def test_a_full_checkpoint_says_nothing_of_weights_alone(model_dir: Path, finished: Path, tmp_path: Path) -> None:
    start = find_start(config(finished, auto_resume_from_checkpoints=True, save_only_model=True))
    assert not start.weights_alone
    assert not find_start(config(tmp_path)).weights_alone


def test_states_are_read_without_unpickling_objects(finished: Path) -> None:
    from transformers.trainer_pt_utils import safe_globals

    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with safe_globals():
            assert torch.load(finished / "checkpoint-8" / name, weights_only=True)
