"""What cannot be trained, as the command line answers it."""

from __future__ import annotations

import json

import pytest

from newt.extend import Facts


def test_a_checkpoint_of_another_config_lists_what_differs(newt, write_config):
    assert newt("train", write_config(save_steps=2))[0] == 0
    changed = write_config(save_steps=2, learning_rate=0.02, weight_decay=0.5, seed=3, resume_from_checkpoint=True)
    code, _, err = newt("train", changed, "--max-steps", "6")
    assert code == 2
    assert "belongs to a run with other settings: learning_rate, seed, weight_decay" in err
    assert "Traceback" not in err


def test_bf16_on_hardware_without_it(newt, write_config, monkeypatch, tmp_path):
    from newt.models import facts

    monkeypatch.setattr(facts, "gather", lambda cfg: Facts(known=True, cpu_bf16=False))
    code, _, err = newt("train", write_config(bf16=True, float32=None))
    assert code == 2
    assert "bf16: this machine does not compute in bfloat16." in err
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number(newt, write_config, tmp_path):
    config = write_config(learning_rate=1e30, save_steps=1, logging_steps=1, max_grad_norm=1e30, warmup_steps=0)
    code, _, err = newt("train", config, "--max-steps", "6", "--no-sample-packing")
    assert code == 2, err
    assert "became" in err
    assert "at step" in err
    assert "Rows trained there, counted from 0: " in err
    assert "checkpoint" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["result"]["error"]


def test_an_evaluation_set_smaller_than_one_batch(newt, write_config, tmp_path):
    code, _, err = newt("train", write_config(val_set_size=1, eval_batch_size=64, eval_steps=2))
    assert code == 0, err
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses if "eval_loss" in line] == [0, 2, 4]


@pytest.mark.parametrize("value", ["0", "-1", "2.5"])
def test_max_steps_that_are_no_steps(newt, write_config, tmp_path, value):
    code, _, err = newt("train", write_config(), "--max-steps", value)
    assert code == 2
    assert "max-steps: must be" in err
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_passed_over_and_said_so(newt, write_config, tmp_path):
    assert newt("train", write_config(save_steps=2))[0] == 0
    weights = tmp_path / "run" / "checkpoint-4" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    code, _, err = newt("train", write_config(save_steps=2, auto_resume_from_checkpoints=True))
    assert code == 0
    assert "Skipped a damaged checkpoint" in err
    assert "Going on from" in err
    assert "checkpoint-2 (step 2)" in err


def test_an_evaluation_that_was_done_is_not_done_again(newt, write_config, tmp_path):
    assert newt("train", write_config(save_steps=2, eval_steps=2))[0] == 0
    run = tmp_path / "run"
    for last in ("resume_from_checkpoint", "auto_resume_from_checkpoints"):
        config = write_config(save_steps=2, eval_steps=2, **{last: True})
        steps = {"resume_from_checkpoint": 6, "auto_resume_from_checkpoints": 8}[last]
        assert newt("train", config, "--max-steps", steps)[0] == 0
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "eval_loss" in line] == list(range(0, steps + 1, 2))
