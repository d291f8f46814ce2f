"""Damaged checkpoints are seen, whole ones are used, and the right ones are kept."""

from __future__ import annotations

import errno
import json
import random
import shutil
import types
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import Data, Rows, config, make, run, same, trained

from newt.support.errors import CheckpointError, NewtError
from newt.support.files import write_manifest
from newt.training import checkpoints
from newt.training.fit import fit
from newt.training.outputs import room_needed
from newt.training.resume import check_same_run, find_start

OPTIONS = {"num_epochs": 2, "packed": False, "data": Data(Rows(16)), "save_steps": 2, "lora": True}


@pytest.fixture(scope="module")
def finished(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps with checkpoints at 2, 4, 6 and 8."""
    out = tmp_path_factory.mktemp("run") / "out"
    run(model_dir, out, **OPTIONS)
    return out


def files() -> list[str]:
    return ["adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth",
            "trainer_state.json", "tokens_state.json", "fingerprint.json", "manifest.json"]  # fmt: skip


def harm(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def test_a_checkpoint_holds_what_a_run_needs(finished: Path) -> None:
    folder = finished / "checkpoint-8"
    assert checkpoints.damage(folder) == []
    names = {path.name for path in folder.iterdir()}
    assert set(files()) <= names
    assert {"tokenizer.json", "training_args.json"} <= names
    assert "training_args.bin" not in names
    counts = json.loads((folder / "tokens_state.json").read_text())
    assert counts["total"] == 2 * Rows(16).lengths.sum()


@pytest.mark.parametrize("how", ["delete", "truncate", "flip"])
@pytest.mark.parametrize("name", files())
def test_damage_is_seen_and_the_previous_checkpoint_is_taken(
    finished: Path, tmp_path: Path, name: str, how: str
) -> None:
    out = tmp_path / "out"
    for step in (6, 8):
        shutil.copytree(finished / f"checkpoint-{step}", out / f"checkpoint-{step}")
    harm(out / "checkpoint-8" / name, how)
    newest, skipped = checkpoints.newest_valid(out)
    assert newest == out / "checkpoint-6"
    assert len(skipped) == 1
    assert str(out / "checkpoint-8") in skipped[0]
    # A changed checksum accuses the file that it belongs to.
    assert name in skipped[0] or (name, how) == ("manifest.json", "flip")
    start = find_start(config(out, auto_resume_from_checkpoints=True))
    assert (start.checkpoint, start.step) == (newest, 6)
    with pytest.raises(CheckpointError, match=r"checkpoint-8 cannot be used.*newest whole checkpoint.*checkpoint-6"):
        find_start(config(out, resume_from_checkpoint=str(out / "checkpoint-8")))
    harm(out / "checkpoint-6" / name, how)
    for key in ("auto_resume_from_checkpoints", "resume_from_checkpoint"):
        with pytest.raises(CheckpointError, match=r"(?s)No checkpoint in .* can be used:.*overwrite_output_dir"):
            find_start(config(out, **{key: True}))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "tokens_state.json"])
def test_a_state_that_was_never_saved_is_missed(finished: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "checkpoint-8"
    shutil.copytree(finished / "checkpoint-8", folder)
    (folder / name).unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert len(checkpoints.damage(folder)) == 1
    assert checkpoints.damage(folder)[0].endswith("is missing")


def test_fallback_says_so_and_ends_with_the_same_weights(
    model_dir: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    _, whole = run(model_dir, tmp_path / "again", **OPTIONS)
    harm(out / "checkpoint-8" / "optimizer.pt", "truncate")
    harm(out / "checkpoint-6" / "adapter_model.safetensors", "flip")
    _, resumed = run(model_dir, out, auto_resume_from_checkpoints=True, **OPTIONS)
    said = capsys.readouterr().err
    assert "Skipped a damaged checkpoint" in said
    assert "optimizer.pt" in said
    assert "checkpoint-4 (step 4)" in said
    assert same(trained(whole), trained(resumed))
    assert checkpoints.newest_valid(out) == (out / "checkpoint-8", [])


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert find_start(config(tmp_path, auto_resume_from_checkpoints=True)).checkpoint is None
    assert find_start(config(tmp_path)).step == 0
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        find_start(config(tmp_path, resume_from_checkpoint=True))
    with pytest.raises(CheckpointError, match="it does not exist"):
        find_start(config(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-1")))


def test_a_run_with_other_settings_is_refused(model_dir: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for change, name in (
        ({"seed": 7}, "seed"),
        ({"micro_batch_size": 1}, "micro_batch_size"),
        ({"max_grad_norm": 0.5}, "max_grad_norm"),
        ({"base_model": "other"}, "base_model"),
        ({"data": Data(Rows(16, seed=9))}, "training data"),
    ):
        trainer, cfg = make(model_dir, out, auto_resume_from_checkpoints=True, **{**OPTIONS, **change})
        with pytest.raises(CheckpointError, match=f"other settings: {name}"):
            fit(trainer, cfg)


def test_harmless_keys_may_differ(model_dir: Path, finished: Path) -> None:
    changed = {"logging_steps": 3, "save_total_limit": 2, "save_steps": 5, "dataloader_num_workers": 1, "debug": True,
               "num_epochs": 3, "eval_batch_size": 4}  # fmt: skip
    trainer, cfg = make(model_dir, finished, auto_resume_from_checkpoints=True, **{**OPTIONS, **changed})
    check_same_run(find_start(cfg), trainer.setup.fingerprint)


def test_weights_of_another_model_are_refused(model_dir: Path, finished: Path) -> None:
    trainer, _ = make(model_dir, finished, **{**OPTIONS, "lora": False})
    with pytest.raises(CheckpointError, match="belongs to another model"):
        trainer._load_from_checkpoint(str(finished / "checkpoint-8"))


def folders(out: Path) -> list[int]:
    return [checkpoints.step_of(path) for path in checkpoints.all_checkpoints(out)]


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [2, 4, 6, 8, 10]),
        (1, None, [10]),
        (2, None, [8, 10]),
        (2, 4, [4, 10]),
        (1, 2, [2, 10]),
        (3, 10, [6, 8, 10]),
    ],
)
def test_retention(tmp_path: Path, limit: int | None, best: int | None, left: list[int]) -> None:
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "manifest.json").write_text("{}")
    checkpoints.prune(tmp_path, limit, tmp_path / f"checkpoint-{best}" if best else None)
    assert folders(tmp_path) == left


def test_retention_never_deletes_the_newest_finished_one(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-2" / "manifest.json").write_text("{}")
    checkpoints.prune(tmp_path, 1, None)
    assert 2 in folders(tmp_path)


def test_limit_holds_in_a_run(finished: Path, model_dir: Path, out: Path) -> None:
    assert folders(finished) == [2, 4, 6, 8]
    run(model_dir, out, **{**OPTIONS, "save_steps": 1}, save_total_limit=2)
    assert folders(out) == [7, 8]


def test_overwrite_deletes_the_other_run(model_dir: Path, out: Path) -> None:
    run(model_dir, out, **OPTIONS)
    run(model_dir, out, overwrite_output_dir=True, **{**OPTIONS, "num_epochs": 1, "save_steps": 3})
    assert folders(out) == [3, 4]
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 4


def test_resume_from_an_older_one_deletes_the_newer(model_dir: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    options = {**OPTIONS, "save_steps": 5}
    run(model_dir, out, resume_from_checkpoint=str(out / "checkpoint-2"), **options)
    assert folders(out) == [2, 5, 8]


def test_best_checkpoint_is_kept_and_loaded(model_dir: Path, out: Path) -> None:
    """A learning rate that spoils the model: the first evaluation is the best."""
    options = {**OPTIONS, "data": Data(Rows(16), Rows(6, 3)), "args": {"learning_rate": 3.0}}
    outcome, trainer = run(
        model_dir, out, **options, eval_steps=2, load_best_model_at_end=True, save_total_limit=1, dropout=0.0
    )
    losses = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e and e["step"]}
    best = min(losses, key=lambda step: losses[step])
    assert best < 8
    assert folders(out) == [best, 8]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[best], rel=1e-6)
    assert outcome.checkpoint == out / "checkpoint-8"


@pytest.mark.parametrize("how", ["delete", "truncate", "flip"])
def test_damage_to_any_file_whatever_is_seen(finished: Path, tmp_path: Path, how: str) -> None:
    names = [path.name for path in (finished / "checkpoint-8").iterdir() if path.stat().st_size]
    assert len(names) > len(files())
    for name in names:
        out = tmp_path / name
        for step in (6, 8):
            shutil.copytree(finished / f"checkpoint-{step}", out / f"checkpoint-{step}")
        harm(out / "checkpoint-8" / name, how)
        start = find_start(config(out, auto_resume_from_checkpoints=True))
        assert start.step == 6, name
        assert len(start.skipped) == 1


def test_a_flipped_bit_anywhere_in_the_manifest_is_seen_or_changes_nothing(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-8"
    shutil.copytree(finished / "checkpoint-8", folder)
    manifest = folder / "manifest.json"
    content = manifest.read_bytes()
    draw = random.Random(0)
    for place in draw.sample(range(len(content)), 60):
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        manifest.write_bytes(changed)
        try:
            same_content = json.loads(changed) == json.loads(content)
        except ValueError:
            same_content = False
        assert checkpoints.damage(folder) or same_content, place


def test_a_full_disk_stops_in_one_line_and_keeps_the_last_good_checkpoint(
    model_dir: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint finds no room: by the system's error, or by the words of torch and safetensors."""
    from safetensors import SafetensorError

    from newt.training.trainer import NewtTrainer

    whole = NewtTrainer._save_optimizer_and_scheduler
    for number, error in enumerate(
        (
            OSError(errno.ENOSPC, "No space left on device"),
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/2: file write failed"),
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        )
    ):

        def save(trainer: NewtTrainer, folder: str, error: Exception = error) -> None:
            if trainer.state.global_step == 6:
                raise error
            whole(trainer, folder)

        monkeypatch.setattr(NewtTrainer, "_save_optimizer_and_scheduler", save)
        here = out / str(number)
        with pytest.raises(NewtError, match=r"the disk of .* is full\. The last good checkpoint is .*checkpoint-4\."):
            run(model_dir, here, **OPTIONS)
        assert folders(here) == [2, 4]
        assert not list(here.glob(".*"))
        assert "is full" in json.loads((here / "run.json").read_text())["result"]["error"]
    monkeypatch.undo()
    outcome, _ = run(model_dir, here, resume_from_checkpoint=True, **OPTIONS)
    assert outcome.global_step == 8


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), room_needed(Path()):
        raise RuntimeError("shape mismatch")
    with pytest.raises(OSError, match="denied"), room_needed(Path()):
        raise PermissionError(errno.EACCES, "denied")


def test_room_is_made_before_a_checkpoint_that_would_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (2, 4, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "manifest.json").write_text("x" * 1000)
    usage = types.SimpleNamespace(free=1001)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    checkpoints.make_room(tmp_path, 3, None)
    assert folders(tmp_path) == [2, 4, 6]
    usage.free = 999
    checkpoints.make_room(tmp_path, None, None)
    assert folders(tmp_path) == [2, 4, 6], "without a limit nothing may be deleted"
    checkpoints.make_room(tmp_path, 3, tmp_path / "checkpoint-2")
    assert folders(tmp_path) == [2, 6]
    checkpoints.make_room(tmp_path, 1, None)
    assert folders(tmp_path) == [6]


def test_a_run_makes_room_before_it_writes(model_dir: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that holds no second checkpoint beside the newest one."""
    from newt.training.trainer import NewtTrainer

    seen, whole = [], NewtTrainer._write_checkpoint

    def write(trainer: NewtTrainer, folder: Path) -> None:
        seen.append(folders(out))
        whole(trainer, folder)

    monkeypatch.setattr(NewtTrainer, "_write_checkpoint", write)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=0))
    run(model_dir, out, **OPTIONS, save_total_limit=2)
    assert seen == [[], [2], [4], [6]]
    assert folders(out) == [6, 8]


def test_strategy_best_saves_only_what_is_better(model_dir: Path, out: Path) -> None:
    options = {**OPTIONS, "data": Data(Rows(16), Rows(6, 3)), "args": {"learning_rate": 3.0}}
    del options["save_steps"]
    _, trainer = run(
        model_dir, out, **options, eval_steps=2, save_strategy="best", metric_for_best_model="eval_loss", dropout=0.0
    )
    losses = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e and e["step"]}
    better = [step for step in losses if all(losses[step] < losses[before] for before in losses if before < step)]
    assert set(folders(out)) - {8} == set(better) - {8}


def test_time_of_all_parts_is_counted(model_dir: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "checkpoint-6" / "tokens_state.json").write_text(
        json.dumps({**json.loads((out / "checkpoint-6" / "tokens_state.json").read_text()), "seconds": 5000.0})
    )
    write_manifest(out / "checkpoint-6")
    run(model_dir, out, resume_from_checkpoint=str(out / "checkpoint-6"), **OPTIONS)
    assert json.loads((out / "run.json").read_text())["earlier_seconds"] == 5000.0
    assert json.loads((out / "checkpoint-8" / "tokens_state.json").read_text())["seconds"] > 5000


def test_steps_that_are_done_are_passed_over_without_looking(model_dir: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    trainer, cfg = make(model_dir, out, resume_from_checkpoint=str(out / "checkpoint-6"), **OPTIONS)
    looked_at: list[int] = []
    sampler = trainer.setup.sampler
    kind = type(sampler)

    class Watched(kind):  # type: ignore[valid-type, misc]
        def __getitem__(self, index: int) -> Any:
            looked_at.append(index)
            return super().__getitem__(index)

    sampler.__class__ = Watched
    assert fit(trainer, cfg).global_step == 8
    assert looked_at == [4, 5, 6, 7], "two steps of two micro-batches of the second epoch"


def test_nan_names_the_step_the_rows_and_the_last_good_checkpoint(model_dir: Path, out: Path) -> None:
    from newt.losses.causal import causal_loss

    trainer, cfg = make(model_dir, out, **{**OPTIONS, "logging_steps": 1})
    wanted = [row for number in (4, 5) for pick in trainer.setup.sampler[number] for row in pick.rows]

    def broken(model: Any, batch: Any, num_items: Any) -> Any:
        return causal_loss(model, batch, num_items) * (float("nan") if trainer.state.global_step == 2 else 1.0)

    trainer.setup.plan.loss._value = broken
    rows = ", ".join(map(str, wanted))
    with pytest.raises(NewtError, match=rf"loss became nan at step 3\. Rows trained there.*: {rows}\. .*checkpoint-2"):
        fit(trainer, cfg)
