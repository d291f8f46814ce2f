"""Streamed training data, by command."""

from __future__ import annotations

import json

import pytest

WORDS = ["tide", "vessel", "cable", "drift", "survey", "segment", "knots", "crew", "north", "of", "the", "a"]


@pytest.fixture
def texts(tmp_path):
    """60 texts of 3 to 50 words."""
    path = tmp_path / "texts.jsonl"
    lines = [{"text": " ".join(WORDS[(i * k) % 12] for k in range(3 + (i * 7) % 48))} for i in range(60)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def pretraining(write_config, texts):
    def write(**changes):
        keys = {
            "datasets": None, "val_set_size": None, "pretraining_dataset": str(texts), "streaming": True,
            "adapter": None, "lora_r": None, "lora_alpha": None, "lora_target_linear": None, "sequence_len": 64,
        }  # fmt: skip
        return write_config(**{**keys, **changes})

    return write


def record(tmp_path):
    return json.loads((tmp_path / "run" / "run.json").read_text())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pretrain_multipack_attn": False},
        {"sample_packing": False},
        {"sample_packing": False, "pretraining_sample_concatenation": True},
    ],
    ids=["isolated", "joined", "apart", "concatenated"],
)
def test_pretraining(pretraining, newt, tmp_path, changes):
    code, out, _ = newt("train", pretraining(**changes))
    assert code == 0
    assert "streamed: these are the numbers of the 60 rows that were read so far" in out
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()
    assert record(tmp_path)["data"]["datasets"][0]["rows"] >= 60


def test_streamed_chats_of_several_datasets(write_config, newt, chat_file, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(chat_file.read_text())
    entries = [
        {"path": str(chat_file), "type": "chat_template", "weight": 3},
        {"path": str(other), "type": "chat_template"},
    ]
    tests = [{"path": str(chat_file), "type": "chat_template", "split": "train[:4]"}]
    config = write_config(
        datasets=entries, val_set_size=None, test_datasets=tests, streaming=True, streaming_multipack_buffer_size=40
    )
    assert newt("check", config)[0] == 0
    code, _, err = newt("train", config)
    assert code == 0, err
    first, second, held_out = record(tmp_path)["data"]["datasets"]
    assert first["rows"] > 2 * second["rows"] > 0
    assert (held_out["use"], held_out["rows"]) == ("eval", 4)
    code, out, _ = newt("evaluate", config)
    assert code == 0
    assert "validation: loss" in out and "training: loss" not in out


def test_preprocess_says_that_there_is_nothing_to_prepare(pretraining, newt, tmp_path):
    code, out, _ = newt("preprocess", pretraining())
    assert code == 0
    assert "There is nothing to prepare: the training rows are streamed." in out
    assert "60 rows that were read" in out
    assert not (tmp_path / "prepared").exists()
    code, _, err = newt("preprocess", pretraining(), "--dump", tmp_path / "rows.jsonl")
    assert (code, "--dump needs prepared rows" in err) == (2, True)


def test_inspect_shows_the_first_rows(pretraining, newt):
    code, out, _ = newt("inspect", pretraining(), "--rows", "1")
    assert code == 0
    assert "texts.jsonl row 0" in out and "end token" in out
    code, _, err = newt("inspect", pretraining(), "--longest")
    assert (code, "--longest looks at all rows, and the training rows are streamed" in err) == (2, True)


def test_evaluate_needs_rows_of_its_own(pretraining, newt):
    code, _, err = newt("evaluate", pretraining())
    assert (code, "the training rows are streamed. Set test_datasets." in err) == (2, True)


def test_a_bad_row_is_one_line_and_the_last_checkpoint_stays(pretraining, texts, newt, tmp_path):
    texts.write_text(texts.read_text() + '{"text": 7}\n')
    config = pretraining(max_steps=60, micro_batch_size=8, save_steps=5, streaming_multipack_buffer_size=30)
    code, _, err = newt("train", config)
    assert code == 2
    assert err.strip().splitlines()[-1].endswith("texts.jsonl: row 60 (line 61): text must be a text, it is 7")
    assert "Traceback" not in err
    assert (tmp_path / "run" / "checkpoint-5" / "manifest.json").is_file()
    assert "must be a text" in record(tmp_path)["result"]["error"]


def test_a_bad_first_row_is_told_before_a_model_is_loaded(pretraining, texts, newt, tmp_path):
    texts.write_text('{"text": "a"\n' + texts.read_text())
    code, _, err = newt("train", pretraining())
    assert (code, "texts.jsonl:1: is not valid JSON" in err) == (2, True)
    assert not (tmp_path / "run").exists()


def test_resume_ends_with_the_same_weights(pretraining, newt, tmp_path):
    from safetensors.torch import load_file

    assert newt("train", pretraining(max_steps=8, save_steps=4))[0] == 0
    whole = load_file(tmp_path / "run" / "model.safetensors")
    for folder in sorted((tmp_path / "run").glob("checkpoint-8")):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    code, _, err = newt("train", pretraining(max_steps=8, save_steps=4), "--resume-from-checkpoint", "true")
    assert code == 0, err
    again = load_file(tmp_path / "run" / "model.safetensors")
    assert all(bool((whole[name] == again[name]).all()) for name in whole)
