"""A whole life: check, preprocess, train, evaluate, ask, merge, and what happens when something is in the way."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time

import pytest

from newt.training.checkpoints import newest_valid


def test_the_main_job(newt, write_config, tmp_path, monkeypatch):
    config = write_config()
    run = tmp_path / "run"

    assert newt("check", config)[0] == 0
    code, out, _ = newt("preprocess", config, "--dump", tmp_path / "rows.jsonl")
    assert code == 0
    assert "56 training rows, 8 evaluation rows" in out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 64
    assert all(len(row["input_ids"]) == len(row["labels"]) for row in rows)

    code, out, err = newt("train", config)
    assert code == 0, err
    assert (run / "adapter_model.safetensors").is_file()
    assert (run / "chat_template.jinja").is_file()
    record = json.loads((run / "run.json").read_text())
    assert record["result"]["global_step"] == 4
    assert record["result"]["eval"]["eval_loss"] < record["result"]["before"]["eval_loss"]
    assert record["data"]["train_rows"] == 56
    html = (run / "report.html").read_text()
    assert "assistant content" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    samples = json.loads((run / "samples.json").read_text())
    assert len(samples) == 3
    assert all({"prompt", "reference", "before", "after"} <= set(sample) for sample in samples)

    code, out, err = newt("evaluate", config)
    assert code == 0
    assert "holds another run" not in err
    with (run / "eval_summary.csv").open() as file:
        table = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(table["loss"]["validation"]) == pytest.approx(record["result"]["eval"]["eval_loss"], abs=1e-5)

    monkeypatch.setattr("sys.stdin", _Typed("Count from 3.\n"))
    code, out, _ = newt("inference", config, "--max-new-tokens", "4", "--temperature", "0")
    assert code == 0
    assert "=" * 80 in out

    code, out, err = newt("merge-lora", config)
    assert code == 0, err
    assert (run / "merged" / "model.safetensors").is_file()
    assert (run / "merged" / "chat_template.jinja").read_text() == (run / "chat_template.jinja").read_text()


class _Typed:
    def __init__(self, text):
        self.text = text

    def isatty(self):
        return False

    def read(self):
        text, self.text = self.text, ""
        return text


def test_a_second_run_is_not_mixed_with_the_first(newt, write_config):
    config = write_config(max_steps=1)
    assert newt("train", config)[0] == 0
    code, _, err = newt("train", config)
    assert code == 2
    assert "output_dir" in err
    assert "resume_from_checkpoint: true" in err
    assert "overwrite_output_dir: true" in err
    assert newt("train", config, "--overwrite-output-dir")[0] == 0
    code, out, _ = newt("check", config)
    assert code == 0
    assert "warning:" in out


def test_a_finished_run_goes_on_to_more_steps(newt, write_config, tmp_path):
    config = write_config(max_steps=2)
    assert newt("train", config)[0] == 0
    code, _, err = newt("train", config, "--max-steps", "3", "--resume-from-checkpoint", "true")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_says_how_to_go_on(write_config, tmp_path):
    config = write_config(max_steps=100_000, logging_steps=1)
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-m", "newt.cli", "train", str(config)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    metrics = tmp_path / "run" / "metrics.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (metrics.is_file() and '"step": 2' in metrics.read_text()):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
    assert "--resume-from-checkpoint true" in (tmp_path / "log").read_text()
    newest, skipped = newest_valid(tmp_path / "run")
    assert newest is not None
    assert skipped == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lora_alhpa": 16}, "lora_alhpa: unknown key. Did you mean lora_alpha?"),
        ({"adapter": None}, "lora_r: has no effect: adapter is not set."),
        ({"base_model": "./no-such-model"}, "base_model: "),
        ({"optimizer": "adamw_tortch"}, "unknown optimizer"),
        ({"datasets": [{"path": "no-such-file.jsonl", "type": "chat_template"}]}, "datasets.0.path: "),
        ({"micro_batch_size": "two"}, "micro_batch_size: must be a whole number"),
    ],
)
def test_bad_input_stops_before_anything_is_written(newt, write_config, tmp_path, changes, text):
    code, _, err = newt("train", write_config(**changes))
    assert code == 2
    assert text in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "prepared").exists()


def test_nothing_to_train_on_is_refused(newt, write_config, tmp_path):
    data = tmp_path / "users.jsonl"
    data.write_text(json.dumps({"messages": [{"role": "user", "content": "only a question, many times over"}]}) + "\n")
    code, _, err = newt("train", write_config(datasets=[{"path": str(data), "type": "chat_template"}], val_set_size=0))
    assert code == 2
    assert "nothing to train" in err
    assert not (tmp_path / "run").exists()


def test_full_fine_tuning(newt, write_config, tmp_path):
    config = write_config(adapter=None, lora_r=None, lora_alpha=None, lora_target_linear=None)
    code, _, err = newt("train", config)
    assert code == 0, err
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert newt("evaluate", config, "--only", "validation")[0] == 0


def test_the_log_has_the_config_and_everything_that_is_said(newt, write_config, tmp_path, monkeypatch):
    monkeypatch.setenv("NEWT_LOG_LEVEL", "ERROR")
    code, _, err = newt("train", write_config(max_steps=1))
    assert code == 0, err
    text = (tmp_path / "run" / "debug.log").read_text()
    config = json.loads(next(line for line in text.splitlines() if " INFO config: " in line).partition("config: ")[2])
    assert config["max_steps"] == 1
    assert list(config) == sorted(config)
    assert "INFO Training " in text  # a remark that was not shown
