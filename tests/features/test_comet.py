"""Comet."""

import json
import zipfile

import pytest
from tests.helpers import complaints
from tests.training.tracked import callback_of, drive

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"comet_workspace": "w"}, "has no effect: use_comet is not on"),
        ({"use_comet": True, "comet_mode": "get"}, "get needs comet_experiment_key"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (Facts(known=True), {"use_comet": True}, "needs the package comet-ml"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"comet-ml": "3"}), {"use_comet": True, "comet_online": False}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"use_comet": True, "comet_mode": "get", "comet_experiment_key": "k" * 32},
        {"use_comet": False, "comet_online": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def losses_of(archive):
    lines = [json.loads(line) for line in archive.read("messages.json").splitlines()]
    metrics = [line["payload"].get("metric") for line in lines if line["type"] == "metric_msg"]
    return [(m["step"], m["metricValue"]) for m in metrics if m and m["metricName"] == "train/loss"]


def test_an_offline_experiment(tmp_path):
    pytest.importorskip("comet_ml")
    keys = {"use_comet": True, "comet_online": False, "comet_project_name": "p"}
    drive(callback_of(tmp_path, **keys), tmp_path)
    key = json.loads((tmp_path / "trackers.json").read_text())["comet"]
    (archive,) = (tmp_path / "comet").glob(f"{key}*.zip")
    with zipfile.ZipFile(archive) as file:
        lines = [json.loads(line) for line in file.read("messages.json").splitlines()]
        names = [info.filename for info in file.infolist()]
        assert losses_of(file) == [(1, 1.0), (2, 0.5)]
    metrics = [line["payload"].get("metric") for line in lines if line["type"] == "metric_msg"]
    assert any(m and m["metricName"] == "eval/loss" for m in metrics)
    assert len(names) > 1, "the config is in it"
    drive(callback_of(tmp_path, **keys), tmp_path, start=2, end=3)
    assert json.loads((tmp_path / "trackers.json").read_text())["comet"] == key
    with zipfile.ZipFile(archive) as file:
        assert losses_of(file) == [(1, 1.0), (2, 0.5)], "the first part is still there"
    (second,) = (tmp_path / "comet" / "from-step-2").glob(f"{key}*.zip")
    with zipfile.ZipFile(second) as file:
        assert [step for step, _ in losses_of(file)] == [3]


@pytest.mark.parametrize("key", ["short", "x" * 51, "no-" * 12])
def test_an_experiment_has_a_well_formed_key(key):
    assert any("32 to 50 letters and digits" in text for text in complaints(use_comet=True, comet_experiment_key=key))


def test_the_key_of_the_account_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("COMET_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMET_API_KEY", raising=False)
    facts = Facts(known=True, packages={"comet-ml": "3"})
    assert any("there is no key of Comet" in text for text in complaints(facts, use_comet=True))
    assert complaints(facts, use_comet=True, comet_online=False) == []
    assert complaints(facts, comet_api_key="x") == []
