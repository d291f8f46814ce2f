"""Trackio."""

import json
import sqlite3

import pytest
from tests.helpers import complaints
from tests.training.tracked import callback_of, drive

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"trackio_space_id": "a/b"}, "has no effect: use_trackio is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"trackio_project_name": "p", "trackio_space_id": "a/b"},
        {"use_trackio": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_a_run_in_a_local_database_and_its_continuation(tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "store")
    keys = {"trackio_project_name": "p"}
    drive(callback_of(tmp_path, **keys), tmp_path)
    name = json.loads((tmp_path / "trackers.json").read_text())["trackio"]
    drive(callback_of(tmp_path, **keys), tmp_path, start=2, end=3)
    assert json.loads((tmp_path / "trackers.json").read_text())["trackio"] == name
    database = next(path for path in (tmp_path / "store").glob("*.db"))
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert {row[0] for row in rows} == {name}
    logged = [(step, json.loads(metrics)) for _, step, metrics in rows]
    assert [(step, values["train/loss"]) for step, values in logged if "train/loss" in values] == [
        (1, 1.0),
        (2, 0.5),
        (3, 1 / 3),
    ]
    assert any("answers" in values for _, values in logged)
    assert trackio.__version__


def test_it_needs_the_package():
    assert any("pip install 'newt-tune[trackio]'" in text for text in complaints(Facts(known=True), use_trackio=True))
