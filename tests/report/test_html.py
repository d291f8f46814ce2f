"""The report: one whole page, escaped, that stands incomplete and broken input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newt.report import write_report
from newt.support.errors import NewtError

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"


Folder = Callable[..., Path]
Read = Callable[[Path], tuple[str, Any]]


@pytest.fixture
def read(parse: Callable[[str], Any]) -> Read:
    """Writes the report of a folder, and gives its text and its parsed page."""

    def open_report(folder: Path) -> tuple[str, Any]:
        text = write_report(folder).read_text(encoding="utf-8")
        return text, parse(text)

    return open_report


def test_the_page_needs_nothing_else(folder: Folder, read: Read) -> None:
    text, page = read(folder())
    assert not re.search(r"https?:", text) and "url(" not in text and "@import" not in text
    assert all("src" not in attributes for _, attributes in page.tags)
    assert not page.find("link") and len(page.find("script")) == len(page.find("style")) == 1
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert ids == {"training", "data", "tokens", "samples", "config", "environment"}
    assert {a["href"].removeprefix("#") for a in page.find("a")} == ids


def test_the_headline_says_what_came_out(folder: Folder, read: Read) -> None:
    _, page = read(folder())
    text = " ".join(page.text.split())
    assert "sft · lora tiny" in text
    assert "Evaluation loss 2.000 → 1.000 −50 % perplexity 7.39 → 2.72" in text
    assert "Steps 40 2 epochs" in text
    assert "Time 1 h 12 min 2026-01-02 10:00 UTC" in text
    assert "Tokens 40k 16k trained (40 %)" in text
    assert "Trained parameters 18k 1.8 % of 1M" in text
    assert "Peak memory 1.5 GiB" in text
    assert "Worth a look" not in text


def test_without_an_evaluation_the_training_loss_is_shown(folder: Folder, run: dict[str, Any], read: Read) -> None:
    run["result"] = {"global_step": 2}
    _, page = read(folder(run=run, metrics=[{"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.0}]))
    assert "Training loss 4.000 → 3.000 −25 % no evaluation was made" in " ".join(page.text.split())


def test_all_curves_are_drawn(folder: Folder, read: Read) -> None:
    _, page = read(folder())
    labels = [svg["aria-label"].partition(":")[0] for svg in page.find("svg") if "data-chart" in svg]
    assert labels == [
        "Loss",
        "Learning rate",
        "Throughput",
        "Gradient norm",
        "Memory",
    ]
    loss = next(svg for svg in page.find("svg") if (svg.get("aria-label") or "").startswith("Loss"))
    names = {s["name"]: len(s["points"]) for s in json.loads(loss["data-chart"])["series"]}
    assert names == {"train": 40, "eval": 5}


def test_other_metrics_are_drawn_with_their_evaluation(folder: Folder, read: Read) -> None:
    events = [{"step": s, "rewards/margins": s / 10, "train_runtime": 3.0, "eval_runtime": 1.0} for s in range(5)]
    events += [{"step": 4, "eval_rewards/margins": 0.5}]
    _, page = read(folder(metrics=events))
    (svg,) = [svg for svg in page.find("svg") if "data-chart" in svg]
    assert [s["name"] for s in json.loads(svg["data-chart"])["series"]] == ["train", "eval"]
    assert "rewards/margins" in page.text and "runtime" not in page.text


def test_a_step_that_was_logged_twice_counts_once(folder: Folder, read: Read) -> None:
    _, page = read(folder(metrics=[{"step": 1, "loss": 9.0}, {"step": 2, "loss": 8.0}, {"step": 2, "loss": 7.0}]))
    (svg,) = [svg for svg in page.find("svg") if "data-chart" in svg]
    assert json.loads(svg["data-chart"])["series"][0]["points"] == [[1, 9], [2, 7]]


def test_nothing_escapes_its_place(folder: Folder, run: dict[str, Any], row: dict[str, Any], read: Read) -> None:
    run["config"] = {EVIL: EVIL, "datasets": [{EVIL: [EVIL]}]}
    run["given"] = [EVIL]
    run["model"] = {"name": EVIL, "method": EVIL, "adapter": EVIL}
    run["versions"] = run["hardware"] = run["git"] = {EVIL: EVIL}
    run["data"]["datasets"][0] |= {"path": EVIL, "type": EVIL, "dropped": {EVIL: 50}, "notes": {EVIL: EVIL}}
    row |= {"dataset": EVIL, "row": EVIL, "raw": {EVIL: EVIL}, "error": EVIL}
    row["tokens"] = [[EVIL, EVIL, 5, EVIL, EVIL], [EVIL, 3, -100, EVIL, EVIL]]
    samples = [{"prompt": EVIL, "before": EVIL, "after": [EVIL], "reference": EVIL}]
    events = [{"step": 1, EVIL: 1.0, f"eval_{EVIL}_loss": 2.0}, {"step": 2, EVIL: 1.0, f"eval_{EVIL}_loss": 2.0}]
    _, page = read(folder(run=run, tokens=[row], samples=samples, metrics=events))
    assert len(page.find("script")) == 1 and not page.find("img")
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count("<script>alert('x')</script>") > 15


@pytest.mark.parametrize("content", [{}, {"config": None, "result": None, "data": [], "model": 3, "given": None}])
def test_a_run_that_wrote_nothing_has_a_report(folder: Folder, content: dict[str, Any], read: Read) -> None:
    _, page = read(folder(run=content, metrics=None, tokens=None, samples=None))
    assert "Training run" in page.text and "The run has not ended" in page.text


def test_damaged_files_are_named_and_the_rest_is_shown(folder: Folder, metrics: list[Any], read: Read) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in metrics) + '{"step": 41, "lo'
    _, page = read(folder(metrics=lines, tokens='[["half', samples="{}"))
    assert "tokens.json could not be read" in page.text and "samples.json could not be read" in page.text
    assert "40 steps" not in page.text and page.find("section", id="training")


def test_values_that_are_not_finite_are_reported(folder: Folder, metrics: list[Any], read: Read) -> None:
    metrics[5]["loss"] = None
    metrics[7]["loss"] = float("nan")
    metrics[9]["grad_norm"] = float("inf")
    text, page = read(folder(metrics=metrics))
    assert "loss was not a finite number 2 times, first at step 5." in page.text
    assert "grad_norm was not a finite number once, at step 9." in page.text
    assert not re.search(r"NaN|Infinity", text)


def test_an_evaluation_loss_that_rises_again_is_reported(folder: Folder, metrics: list[Any], read: Read) -> None:
    metrics += [{"step": 50, "eval_loss": 0.9}, {"step": 60, "eval_loss": 1.4}]
    _, page = read(folder(metrics=metrics))
    assert "Evaluation loss was lowest at step 50 (0.900) and ended at 1.400" in page.text


def test_data_that_deserves_a_look_is_marked(folder: Folder, run: dict[str, Any], read: Read) -> None:
    first = run["data"]["datasets"][0]
    bad = {**first, "path": "b.jsonl", "rows_kept": 60, "dropped": {"empty": 10, "too long": 30}, "truncated": 9}
    run["data"]["datasets"].append({**bad, "trained_tokens": 100})
    _, page = read(folder(run=run))
    assert "b.jsonl: 40 % of the rows were dropped (too long 30, empty 10)." in page.text
    assert "b.jsonl: 15 % of the kept rows were truncated." in page.text
    assert "b.jsonl: only 2.0 % of the tokens are trained." in page.text
    assert len(page.find("td", class_="warn")) >= 3
    (foot,) = [re.sub(r"\s+", " ", part) for part in re.findall(r"All 2(.*?)Rows are", page.text, re.S)]
    assert "200 158 42 (21 %)" in foot


def test_the_data_rooms_own_summary_is_understood(folder: Folder, run: dict[str, Any], read: Read) -> None:
    run["data"] = {
        "datasets": [
            {"path": "a.jsonl", "type": "alpaca", "use": "train", "rows": 10, "kept": 8, "too_long": 2, "too_short": 0}
            | {"nothing_to_train": 0, "truncated": 0, "tokens": 100, "trained": 40, "notes": {"empty answer": 3}}
        ],
        "length_edges": [0, 10, 20],
        "length_counts": [3, 5],
        "notes": ["two datasets share rows"],
        "packing_efficiency": 0.9,
        "packed_rows": 4,
    }
    _, page = read(folder(run=run))
    text = " ".join(page.text.split())
    for part in ("a.jsonl", "empty answer: 3", "alpaca", "train", "2 (20 %)", "too long 2", "40 (40 %)"):
        assert part in text
    assert "a.jsonl: 20 % of the rows were dropped (too long 2)." in text
    assert "packed into 4 sequences, 90 % full" in text and "two datasets share rows" in text
    assert len(page.find("rect", class_="bar")) == 2


def test_given_keys_and_defaults_are_apart(folder: Folder, read: Read) -> None:
    _, page = read(folder())
    given, _, defaults = page.text[page.text.index("The keys that were given") :].partition("defaults;")
    keys = ("base_model", "datasets.0.path", "datasets.0.type", "lora_r")
    assert all(key in given and key not in defaults for key in keys)
    assert "seed" in defaults and "seed" not in given
    assert "2 keys not set" in page.text


def test_large_input_is_cut_and_says_so(folder: Folder, row: dict[str, Any], read: Read) -> None:
    long = {**row, "tokens": row["tokens"] * 500, "length": 3000, "trained": 1500}
    samples = [{"prompt": "p" * 9000, "before": "b", "after": "a", "reference": None}] * 25
    _, page = read(folder(tokens=[long] + [row] * 24, samples=samples))
    assert "1,000 more tokens are not shown here." in page.text
    assert "5 more rows are in tokens.json." in page.text and len(page.find("details", class_="row")) == 20
    assert "5 more are in samples.json." in page.text and "1,000 more characters" in page.text


def test_half_a_surrogate_pair_can_be_written(folder: Folder, run: dict[str, Any], read: Read) -> None:
    run["model"]["name"] = "a\ud800b"
    assert "a\\ud800b" in read(folder(run=run))[0]


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_that_is_no_run_is_an_error(folder: Folder, content: str | None) -> None:
    place = folder(run=content)
    with pytest.raises(NewtError, match=r"run\.json.*Give the output_dir of a run\."):
        write_report(place)
    assert not list(place.glob("*report.html*"))


def test_a_second_report_takes_the_place_of_the_first(folder: Folder, run: dict[str, Any], read: Read) -> None:
    place = folder()
    before = set(place.iterdir())
    write_report(place)
    run["model"]["name"] = "other"
    _, page = read(folder(run=run))
    assert "other" in page.text
    assert {path.name for path in set(place.iterdir()) - before} == {"report.html"}


def test_the_room_is_light() -> None:
    code = "import sys, newt.report; print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
