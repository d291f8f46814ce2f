"""The Python API."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import newt


@pytest.fixture
def config(model_dir, chat_file, tmp_path):
    return {
        "base_model": str(model_dir),
        "datasets": [{"path": str(chat_file), "type": "chat_template"}],
        "val_set_size": 8,
        "sequence_len": 128,
        "adapter": "lora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_target_linear": True,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 2,
        "learning_rate": 0.01,
        "float32": True,
        "dataset_num_proc": 1,
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "output_dir": str(tmp_path / "run"),
    }


def test_importing_newt_is_light():
    code = "import newt, sys; print(sorted({'torch', 'transformers', 'pydantic', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        newt.trian  # noqa: B018


def test_check_lists_problems_of_a_mapping(config):
    assert newt.check(config) == []
    problems = newt.check({**config, "lora_rr": 1, "optimizer": "adan"})
    assert [problem.keys[0] for problem in problems] == ["lora_rr", "optimizer"]


def test_load_config_gives_typed_sections(config):
    from newt.config.core import Batch

    assert newt.load_config(config, ["micro_batch_size=3"])[Batch].micro_batch_size == 3
    with pytest.raises(newt.NewtError, match="must be a whole number"):
        newt.load_config(config, {"micro_batch_size": "many"})


def test_tokenize_marks_what_is_trained(config, model_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (row,) = newt.tokenize(config, [{"messages": messages}])
    assert row["input_ids"] == tokenizer.apply_chat_template(messages, return_dict=False)
    trained = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    assert tokenizer.decode(trained) == "Hello<|im_end|>"


def test_tokenize_names_the_row(config):
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    with pytest.raises(newt.DataError, match="row 1"):
        newt.tokenize(config, [good, {"text": "no messages"}])


def test_tokenize_takes_an_entry_of_ones_own(model_dir):
    base = {"base_model": str(model_dir)}
    (made,) = newt.tokenize(base, [{"question": "a", "answer": "b"}], {"type": {"field_instruction": "question",
        "field_output": "answer", "format": "{instruction}", "no_input_format": "{instruction}"}})  # fmt: skip
    assert made["labels"][0] == -100 and made["labels"][-1] == made["input_ids"][-1]
    made = newt.tokenize(base, [{"text": "word " * 30}], {"type": "completion"}, overrides=["sequence_len=16"])
    assert [len(row["input_ids"]) for row in made[:-1]] == [16] * (len(made) - 1)


def test_tokenize_reads_an_entry_of_test_datasets(config):
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "word " * 20}]}]
    entry = {"type": "chat_template"}
    short = {"eval_sequence_len": 16, "excess_length_strategy": "truncate", "val_set_size": 0}
    (made,) = newt.tokenize(config, rows, entry, overrides=short, evaluation=True)
    assert len(made["input_ids"]) == 16
    with pytest.raises(newt.NewtError, match="unknown key"):
        newt.tokenize(config, rows, {"type": "chat_template", "field_message": "x"})


def test_pack():
    lengths = [5, 4, 3, 3, 2, 1]
    bins = newt.pack(lengths, 6)
    assert sorted(n for rows in bins for n in rows) == list(range(6))
    assert all(sum(lengths[n] for n in rows) <= 6 for rows in bins)
    assert len(bins) == 3
    assert newt.pack(lengths, 6, sequentially=True) == [[0], [1], [2, 3], [4, 5]]
    assert max(map(len, newt.pack(lengths, 100, max_per_bin=2))) == 2
    assert newt.pack([3] * 8, 6, seed=1) == newt.pack([3] * 8, 6, seed=1) != newt.pack([3] * 8, 6, seed=2)


def test_train_evaluate_generate_merge(config, tmp_path):
    result = newt.train(config)
    assert result.global_step == 2
    assert result.metrics["eval_loss"] < result.before["eval_loss"]
    metrics = newt.evaluate(config)
    assert metrics["validation"]["loss"] == pytest.approx(result.metrics["eval_loss"], abs=1e-5)
    assert len(newt.generate(config, ["Count from 1."], max_new_tokens=3)) == 1
    with pytest.raises(TypeError, match="must be a list of texts"):
        newt.generate(config, "Count from 1.")
    with pytest.raises(TypeError, match=r"has no setting 'unknown'. It has: max_new_tokens, temperature, top_p"):
        newt.generate(config, ["Count from 1."], unknown=1)
    report = newt.merge_lora(config)
    assert (tmp_path / "run" / "merged" / "config.json").is_file()
    assert json.loads((tmp_path / "run" / "merged" / "config.json").read_text())["model_type"] == "llama"
    assert report.max_difference <= report.tolerance
