"""Weights & Biases."""

import json

import pytest
from tests.helpers import complaints
from tests.training.tracked import callback_of, drive

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"wandb_project": "p", "wandb_run_id": "x"}, "also becomes the run's name"),
        ({"wandb_name": "x"}, "has no effect: wandb_project is not set"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (Facts(known=True), {"wandb_project": "p"}, "needs the package wandb"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"wandb": "1"}), {"use_wandb": True, "wandb_mode": "offline"}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {
            "wandb_project": "p",
            "wandb_run_id": "x",
            "wandb_name": "n",
            "wandb_log_model": "end",
            "wandb_mode": "offline",
        },
        {"use_wandb": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(("file", "found"), [("machine api.wandb.ai login user password x", True), ("", False)])
def test_the_key_is_looked_for_before_anything_is_loaded(tmp_path, monkeypatch, file, found):
    (tmp_path / "netrc").write_text(file)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    facts = Facts(known=True, packages={"wandb": "1"})
    said = any("there is no key of Weights & Biases" in text for text in complaints(facts, wandb_project="p"))
    assert said is not found
    assert complaints(facts, wandb_project="p", wandb_mode="offline") == []
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert complaints(facts, wandb_project="p") == []


@pytest.mark.parametrize(
    ("value", "uploads", "watch", "watched"),
    [
        (None, None, None, ()),
        ("checkpoint", "checkpoint", "all", ("gradients", "parameters")),
        ("end", "end", "parameters", ("parameters",)),
        (True, "end", True, ("gradients",)),
        (False, None, False, ()),
    ],
)
def test_what_it_gets(tmp_path, value, uploads, watch, watched):
    callback = callback_of(tmp_path, wandb_project="p", wandb_log_model=value, wandb_watch=watch)
    assert (callback.uploads, callback.watched) == (uploads, watched)


def test_an_offline_run_and_its_continuation(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_PROJECT", "WANDB_MODE", "WANDB_WATCH", "WANDB_LOG_MODEL", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    keys = {"wandb_project": "p", "wandb_mode": "offline", "wandb_watch": "all", "wandb_log_model": "checkpoint"}
    drive(callback_of(tmp_path, **keys), tmp_path)
    wandb.teardown()  # its own process writes what is left
    run_id = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    records = _records(next((tmp_path / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")))
    history = [{item.nested_key[0] if item.nested_key else item.key: item.value_json for item in r} for r in records]
    losses = [(row["step"], row["train/loss"]) for row in history if "train/loss" in row]
    assert [(int(step), float(loss)) for step, loss in losses] == [(1, 1.0), (2, 0.5)]
    assert any("eval/loss" in row for row in history)
    assert any("gradients/weight" in row for row in history)
    assert any("answers" in row for row in history)
    drive(callback_of(tmp_path, **keys), tmp_path, start=2, end=3)
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{run_id}*"))) >= 1
    assert json.loads((tmp_path / "trackers.json").read_text())["wandb"] == run_id


def _records(path):
    from wandb.proto import wandb_internal_pb2

    found = []
    for data in _entries(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            found.append(list(record.history.item))
    return found


def _entries(content, block=32768, header=7):
    """The entries of LevelDB's log format: each in parts that end with the block."""
    place, whole = header, b""
    while place + header <= len(content):
        if block - place % block < header:
            place += block - place % block
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + header : place + header + length]
        place += header + length
        if kind in (1, 4):  # the only part, or the last
            yield whole
            whole = b""
