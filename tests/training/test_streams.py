"""Micro-batches of a stream: turns of the ranks, exact token counts, and a run that goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.pipeline import FakeTokenizer, HandsThrough, Ids, write_jsonl
from tests.training.test_resume_exact import SendSignal, steady
from tests.training.tiny import CAPACITY, Data, config, load, plans, same, trained

from newt.config.core import Dataset, Loader
from newt.data.collate import PaddedCollator
from newt.data.stream import Stream
from newt.support.errors import CheckpointError, DataError
from newt.training.batches import TOKENS, Collate, Place
from newt.training.build import build_trainer
from newt.training.fit import fit
from newt.training.streams import DRAWN, StreamSampler


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """37 rows of 5 to 29 tokens; the first third of each is not trained."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(3, 600, rng.integers(5, 30)).tolist() for _ in range(37)]
    return write_jsonl(tmp_path / "rows.jsonl", [{"ids": row, "masked": len(row) // 3} for row in ids])


def data_plan(path: Path, cfg: Any, *, packed: bool = False, buffer: int = 8) -> Any:
    _, plan = plans(cfg, packed=packed)
    plan.formats = [Ids(Dataset(path=str(path)), cfg)]
    plan.tokenize.fill(HandsThrough, by="test")
    plan.stream.fill(buffer, by="test")
    return plan


def sampler(path: Path, tmp_path: Path, place: Place = Place(), batches: int = 12, **options: Any) -> StreamSampler:  # noqa: B008
    plan = data_plan(path, config(tmp_path / "out", max_steps=6, **options))
    return StreamSampler(Stream(plan, FakeTokenizer()), 2, batches, place)


def batches_of(found: StreamSampler) -> list[dict[str, Any]]:
    return list(found.loader(Collate(PaddedCollator(0), packed=False)))


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_take_turns(rows: Path, tmp_path: Path, workers: int) -> None:
    alone = batches_of(sampler(rows, tmp_path, batches=12, dataloader_num_workers=workers))
    ranks = [
        batches_of(sampler(rows, tmp_path, Place(rank, 3), 4, dataloader_num_workers=workers)) for rank in range(3)
    ]
    assert [len(batches) for batches in ranks] == [4, 4, 4]
    for number, batch in enumerate(alone):
        turn = ranks[number % 3][number // 3]
        assert torch.equal(turn["input_ids"], batch["input_ids"])
        assert turn[TOKENS] == batch[TOKENS] == int(batch["attention_mask"].sum())
    # After a turn all ranks stand at the same place: any of them may write the checkpoint.
    assert len({str(batches[-1][DRAWN].after) for batches in ranks}) == 1


def test_one_process_reads_however_many_are_allowed(rows: Path, tmp_path: Path) -> None:
    found = sampler(rows, tmp_path, dataloader_num_workers=4)
    assert found.stream.plan.cfg[Loader].dataloader_num_workers == 4
    assert found.loader(Collate(PaddedCollator(0), packed=False)).num_workers == 1
    assert sampler(rows, tmp_path).loader(Collate(PaddedCollator(0), packed=False)).num_workers == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_row_is_told_in_one_line(rows: Path, tmp_path: Path, workers: int) -> None:
    rows.write_text(rows.read_text() + '{"ids": [1\n')
    found = sampler(rows, tmp_path, batches=40, dataloader_num_workers=workers)
    batches = iter(found.loader(Collate(PaddedCollator(0), packed=False)))
    for _ in range(16):
        found.take([next(batches)])
    with pytest.raises(DataError) as told:
        for batch in batches:
            found.take([batch])
    assert str(told.value).startswith(f"{rows}:38: is not valid JSON")
    assert len(str(told.value).splitlines()) == 1


def test_the_log_counts_rows_and_the_end_is_told(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.write_text('{"ids": [5]}\n' + rows.read_text())
    found = sampler(rows, tmp_path, batches=24)
    found.take(batches_of(found))
    assert found.log() == {"stream_rows": 38 + 16, "stream_dropped": 2}
    assert f"{rows}: pass 1 ended, it begins again." in capsys.readouterr().err


# --------------------------------------------------------------------------- whole runs


def run(model_dir: Path, out: Path, path: Path, *, packed: bool = False, callbacks: Any = (), **settings: Any) -> Any:
    """(outcome, trainer) of a run on a stream."""
    settings = {"max_steps": 12, "save_steps": 4, "logging_steps": 1, **settings}
    cfg = config(out, **settings)
    plan, _ = plans(cfg)
    plan.callbacks.extend(callbacks)
    of_data = data_plan(path, cfg, packed=packed)
    loaded = load(model_dir)
    datasets = Data(Stream(of_data, loaded.tokenizer))
    trainer = build_trainer(plan, of_data, loaded, datasets)
    return fit(trainer, cfg), trainer


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize(("step", "workers"), [(2, 1), (7, 0), (7, 1), (11, 1)])
def test_a_resumed_run_equals_a_straight_one(
    model_dir: Path, rows: Path, tmp_path: Path, packed: bool, step: int, workers: int
) -> None:
    options: dict[str, Any] = {"packed": packed, "dataloader_num_workers": workers}
    _, whole = run(model_dir, tmp_path / "a", rows, **options)
    stopped, _ = run(model_dir, tmp_path / "b", rows, callbacks=[lambda: SendSignal(step)], **options)
    assert (stopped.stopped_by, stopped.global_step) == ("SIGTERM", step)
    outcome, resumed = run(model_dir, tmp_path / "b", rows, resume_from_checkpoint=True, **options)
    assert (outcome.global_step, outcome.stopped_by) == (12, None)
    assert same(trained(whole), trained(resumed))
    assert resumed.counts == whole.counts
    assert resumed.setup.sampler.state() == whole.setup.sampler.state()
    # The step at which it stopped is logged with the rows that were read by then, not more.
    assert [line["loss"] for line in steady(tmp_path / "b") if "loss" in line] == [
        line["loss"] for line in steady(tmp_path / "a") if "loss" in line
    ]


def test_a_run_may_go_on_longer(model_dir: Path, rows: Path, tmp_path: Path) -> None:
    _, whole = run(model_dir, tmp_path / "a", rows, max_steps=12, save_steps=6)
    _, short = run(model_dir, tmp_path / "b", rows, max_steps=6, save_steps=6)
    assert short.setup.sampler.state()["micro_batches"] == 12
    _, longer = run(model_dir, tmp_path / "b", rows, max_steps=12, save_steps=6, resume_from_checkpoint=True)
    assert longer.setup.sampler.state() == whole.setup.sampler.state()


def test_the_loss_is_divided_by_the_tokens_of_the_whole_step(model_dir: Path, rows: Path, tmp_path: Path) -> None:
    """Two micro-batches of 2 rows and one of 4 rows are the same step: the same weights but for rounding."""
    options = {"max_steps": 3, "dropout": 0.0}
    found = []
    for micro, accumulation in ((2, 2), (4, 1)):
        cfg = config(
            tmp_path / str(micro), max_steps=3, micro_batch_size=micro, gradient_accumulation_steps=accumulation
        )
        plan, _ = plans(cfg)
        of_data = data_plan(rows, cfg)
        loaded = load(model_dir, dropout=options["dropout"])
        trainer = build_trainer(plan, of_data, loaded, Data(Stream(of_data, loaded.tokenizer)))
        fit(trainer, cfg)
        found.append((trained(trainer), trainer.counts))
    assert found[0][1] == found[1][1]
    for name, weight in found[0][0].items():
        torch.testing.assert_close(weight, found[1][0][name], atol=1e-5, rtol=1e-4)


def test_a_bad_row_stops_the_run_and_keeps_the_checkpoint(model_dir: Path, rows: Path, tmp_path: Path) -> None:
    rows.write_text(rows.read_text() + '{"ids": [1\n')
    with pytest.raises(DataError, match=r"rows.jsonl:38: is not valid JSON"):
        run(model_dir, tmp_path / "out", rows, max_steps=30)
    assert (tmp_path / "out" / "checkpoint-8" / "stream_state.json").is_file()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["result"]["global_step"] == 8


def test_other_rows_are_another_run(model_dir: Path, rows: Path, tmp_path: Path) -> None:
    run(model_dir, tmp_path / "out", rows, max_steps=4)
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[1:]))
    with pytest.raises(CheckpointError, match="training data"):
        run(model_dir, tmp_path / "out", rows, max_steps=8, resume_from_checkpoint=True)


def test_a_place_that_does_not_fit_the_steps_is_refused(rows: Path, tmp_path: Path) -> None:
    found = sampler(rows, tmp_path)
    with pytest.raises(CheckpointError, match="stands at micro-batch 0 of the stream, its steps need 4"):
        found.resume(found.state(), 4)


def test_processes_leave_nothing_behind(model_dir: Path, rows: Path, out: Path) -> None:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not listed.is_file():
        pytest.skip("this system does not list the children of a process")
    before = set(listed.read_text().split())  # of other tests
    run(model_dir, out, rows, max_steps=2)
    assert set(listed.read_text().split()) <= before


def test_packed_batches_have_the_usual_shape(model_dir: Path, rows: Path, tmp_path: Path) -> None:
    cfg = config(tmp_path / "out", max_steps=2, pad_to_sequence_len=True)
    plan, _ = plans(cfg)
    of_data = data_plan(rows, cfg, packed=True, buffer=37)
    loaded = load(model_dir)
    trainer = build_trainer(plan, of_data, loaded, Data(Stream(of_data, loaded.tokenizer)))
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape[0] == 2
    assert batch["input_ids"].shape[1] >= CAPACITY
    assert (batch["position_ids"] == 0).sum() >= 4
    assert "attention_mask" not in batch
