"""Damaged checkpoints are seen, whole ones are used, and the right ones are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.training.tiny import Data, Rows, config, make, run, same, trained

from newt.support.errors import CheckpointError
from newt.training import checkpoints
from newt.training.fit import fit
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
