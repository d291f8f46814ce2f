"""``auto_find_batch_size``: the weights of a run that had the small micro-batch from the start, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import make_config

from newt import api
from newt.support.errors import CheckpointError, NewtError
from newt.training.memory import DoesNotFitError, advice
from newt.training.trainer import NewtTrainer, Setup

CHECKPOINTING = {"gradient_checkpointing": True}
PACKED = {"sample_packing": True}
LONG = {**PACKED, "multipack_real_batches": False}
Train = Callable[..., Path]


@pytest.fixture
def train(model_dir: Path, chat_file: Path, tmp_path: Path) -> Train:
    """Trains; returns the folder. ``name`` is its name."""

    def run(name: str, **changes: Any) -> Path:
        keys = {
            "base_model": str(model_dir), "datasets": [{"path": str(chat_file), "type": "chat_template"}],
            "sequence_len": 128, "micro_batch_size": 4, "gradient_accumulation_steps": 1, "max_steps": 6,
            "learning_rate": 1e-2, "float32": True, "report_samples": 0, "dataset_num_proc": 1, "attn_implementation":
            "sdpa", "dataset_prepared_path": str(tmp_path / "prepared"), "output_dir": str(tmp_path / name),
            "save_steps": 2, "logging_steps": 1, "pad_to_sequence_len": True, "val_set_size": 8, **changes,
        }  # fmt: skip
        api.train({key: value for key, value in keys.items() if value is not None})
        return tmp_path / name

    return run


class Device:
    """A device whose memory holds this many tokens of a training batch from the step ``begin`` on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tokens: int, begin: int = 0) -> None:
        self.tokens, self.begin, self.tried, self.trainer = tokens, begin, [], None
        made, loss = NewtTrainer.__init__, Setup.loss.fget

        def keep(trainer: Any, *args: Any, **kwargs: Any) -> None:
            made(trainer, *args, **kwargs)
            self.trainer = trainer

        def limited(setup: Any) -> Any:
            return lambda model, batch, items: self.check(model, batch) or loss(setup)(model, batch, items)

        monkeypatch.setattr(NewtTrainer, "__init__", keep)
        monkeypatch.setattr(Setup, "loss", property(limited))

    def check(self, model: Any, batch: Any) -> None:
        if not model.training:
            return
        self.tried.append(tuple(batch["input_ids"].shape))
        if batch["input_ids"].numel() > self.tokens and self.trainer.state.global_step >= self.begin:
            raise torch.OutOfMemoryError("full")


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def logged(out: Path) -> list[tuple[float, ...]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["learning_rate"], line["tokens"]) for line in lines if "loss" in line]


@pytest.mark.parametrize(
    "keys",
    [{}, PACKED, LONG, {"group_by_length": True}],
    ids=["rows", "packed", "long_rows", "by_length"],
)
def test_the_probe_finds_what_fits(train: Train, monkeypatch, capsys, keys) -> None:
    small = train("small", micro_batch_size=1, gradient_accumulation_steps=4, **keys)
    device = Device(monkeypatch, 128)
    found = train("found", auto_find_batch_size=True, **keys)
    assert same(small, found)
    assert logged(small) == logged(found)
    said = capsys.readouterr().err
    assert "Again from step 0 with micro_batch_size: 2 and gradient_accumulation_steps: 2\n" in said
    assert "Again from step 0 with micro_batch_size: 1 and gradient_accumulation_steps: 4\n" in said
    # Each size is tried once; the one that fits is then tried beside the optimizer's state too.
    assert device.tried[:3] == ([(1, 512), (1, 256), (1, 128)] if keys == LONG else [(4, 128), (2, 128), (1, 128)])
    assert len(device.tried) == 2 + 2 + 6 * 4
    record = json.loads((found / "run.json").read_text())
    assert record["auto_find_batch_size"] == {"micro_batch_size": 1, "gradient_accumulation_steps": 4}
    assert record["result"]["global_step"] == 6
    assert "auto_find_batch_size" not in json.loads((small / "run.json").read_text())


def test_rows_of_a_step_stay(train: Train, monkeypatch) -> None:
    """Against the config as it was asked: the same steps, tokens and rates, and losses up to rounding."""
    asked = train("asked")
    Device(monkeypatch, 128)
    found = train("found", auto_find_batch_size=True)
    for one, other in zip(logged(asked), logged(found), strict=True):
        assert one[:1] + one[2:] == other[:1] + other[2:]
        assert one[1] == pytest.approx(other[1], rel=1e-4)


def test_memory_that_runs_out_in_a_step_begins_again(train: Train, monkeypatch) -> None:
    small = train("small", micro_batch_size=2, gradient_accumulation_steps=2)
    device = Device(monkeypatch, 256, begin=1)  # as when the optimizer's state takes its place
    found = train("found", auto_find_batch_size=True)
    assert same(small, found)
    assert logged(small) == logged(found)
    assert device.tried[:4] == [(4, 128), (4, 128), (4, 128), (2, 128)]


def test_what_was_done_is_kept_where_the_rows_are_the_same(train: Train, monkeypatch, capsys) -> None:
    begun = train("begun", max_steps=4, lr_scheduler="constant")
    device = Device(monkeypatch, 256, begin=5)
    found = train("found", auto_find_batch_size=True, lr_scheduler="constant")
    assert "Again from step 4 with micro_batch_size: 2" in capsys.readouterr().err
    assert logged(found)[:4] == logged(begun)
    assert [line[0] for line in logged(found)] == [1, 2, 3, 4, 5, 6]
    assert sum(shape == (2, 128) for shape in device.tried) >= 4


def test_packs_of_another_length_do_not_go_on(train: Train, monkeypatch) -> None:
    Device(monkeypatch, 256, begin=3)
    with pytest.raises(DoesNotFitError, match=r"Step 4 does not fit into the memory. Set micro_batch_size: 2 and grad"):
        train("found", auto_find_batch_size=True, **LONG)


def test_a_resumed_run_has_the_micro_batch_of_its_checkpoint(train: Train, monkeypatch, capsys) -> None:
    small = train("small", micro_batch_size=2, gradient_accumulation_steps=2)
    with monkeypatch.context() as patched:
        Device(patched, 256)
        train("found", auto_find_batch_size=True, max_steps=4, lr_scheduler="constant")
    straight = train("straight", micro_batch_size=2, gradient_accumulation_steps=2, lr_scheduler="constant")
    resume = {"auto_find_batch_size": True, "resume_from_checkpoint": True, "lr_scheduler": "constant"}
    found = train("found", **resume)
    assert "As in the checkpoint: micro_batch_size: 2 and gradient_accumulation_steps: 2" in capsys.readouterr().err
    assert same(straight, found)
    assert not same(small, found)
    # Without the key, or with another step, the check of the checkpoint stands.
    with pytest.raises(CheckpointError, match="micro_batch_size"):
        train("found", resume_from_checkpoint=True, lr_scheduler="constant", max_steps=8)
    with pytest.raises(CheckpointError, match="micro_batch_size"):
        train("found", **resume, micro_batch_size=8, max_steps=8)


def test_a_resumed_run_may_need_a_smaller_one(train: Train, monkeypatch) -> None:
    train("found", auto_find_batch_size=True, max_steps=4, lr_scheduler="constant")
    device = Device(monkeypatch, 256)
    found = train("found", auto_find_batch_size=True, resume_from_checkpoint=True, lr_scheduler="constant")
    assert [line[0] for line in logged(found)] == [1, 2, 3, 4, 5, 6]
    assert set(device.tried) == {(4, 128), (2, 128)}


def test_nothing_is_left_to_halve(train: Train, monkeypatch, tmp_path) -> None:
    Device(monkeypatch, 64)
    with pytest.raises(DoesNotFitError, match=r"largest micro-batch \(1 x 128 tokens\) .* gradient_checkpointing"):
        train("found", auto_find_batch_size=True)
    record = json.loads((tmp_path / "found" / "run.json").read_text())
    assert "does not fit" in record["result"]["error"]


def test_without_the_key_it_is_one_line(train: Train, monkeypatch) -> None:
    Device(monkeypatch, 256)
    with pytest.raises(NewtError, match=r"Step 1 does not fit into the memory. Set micro_batch_size: 2 and"):
        train("plain")


def test_an_evaluation_that_does_not_fit_names_its_key(train: Train, monkeypatch) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("newt.training.trainer.sum_losses", full)
    with pytest.raises(NewtError, match=r"evaluation does not fit into the memory. Lower eval_batch_size"):
        train("found", auto_find_batch_size=True)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"micro_batch_size": 8, "gradient_accumulation_steps": 3, "sequence_len": 4096},
            "Set micro_batch_size: 4 and gradient_accumulation_steps: 6 (the same step), or set auto_find_batch_size: "
            "true, or set gradient_checkpointing: true, or lower sequence_len (4096).",
        ),
        (
            {"micro_batch_size": 3, "batch_size": 6, "gradient_accumulation_steps": None, **CHECKPOINTING},
            "Set micro_batch_size: 1 (the same step), or set activation_offloading: true, or lower sequence_len (512).",
        ),
        (
            {"micro_batch_size": 1, "gradient_checkpointing": "offload"},
            "Lower sequence_len (512).",
        ),
    ],
)
def test_the_advice_names_keys_and_values(keys, expected) -> None:
    assert advice(make_config(**keys)) == expected
