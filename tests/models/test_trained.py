"""What is trained is counted, shown and kept."""

import json

from tests.models.tiny import load

from newt.models.adapters import count_parameters
from newt.models.trained import JSON, TEXT, keep_trained, trained_rows

BASE = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}


def test_the_table_counts_by_kind_of_module(model_dir):
    model = load(model_dir, **BASE, lora_target_modules=["q_proj"]).model
    rows = trained_rows(model)
    first = rows[0]
    assert (first.module, first.modules) == ("q_proj", 2)
    assert (first.trained, first.total) == (2 * (4 * 64 + 64 * 4), 2 * (64 * 64 + 4 * 64 + 64 * 4))
    assert sum(row.trained for row in rows) == count_parameters(model)[0]
    assert sum(row.total for row in rows) == count_parameters(model)[1]


def test_number_types_are_told_apart(model_dir):
    model = load(model_dir, **BASE, bf16="full", lora_target_modules=["q_proj"], lora_modules_to_save=["norm"]).model
    rows = {row.module: row for row in trained_rows(model)}
    assert (rows["q_proj"].dtype, rows["q_proj"].frozen_dtype) == ("float32", "bfloat16")
    assert (rows["norm"].dtype, rows["norm"].frozen_dtype) == ("float32", "bfloat16")
    assert (rows["up_proj"].dtype, rows["up_proj"].frozen_dtype) == ("", "bfloat16")


def test_it_is_kept_as_text_and_json(model_dir, tmp_path):
    model = load(model_dir, **BASE, lora_target_modules=["q_proj"]).model
    text = keep_trained(model, tmp_path / "out")
    assert (tmp_path / "out" / TEXT).read_text() == text + "\n"
    lines = text.splitlines()
    assert lines[0].split() == ["module", "number", "trained", "of", "trained", "in", "frozen", "in"]
    assert lines[1].split() == ["q_proj", "2", "1,024", "9,216", "float32", "float32"]
    trained, total = count_parameters(model)
    assert lines[-1].split()[2:4] == [f"{trained:,}", f"{total:,}"]
    kept = json.loads((tmp_path / "out" / JSON).read_text())
    assert kept[0]["module"] == "q_proj"
    assert len(kept[0]["names"]) == 2


def test_frozen_rows_do_not_count_as_trained(model_dir):
    found = load(model_dir, unfrozen_parameters=["model.embed_tokens.weight[17:20]", "model.norm"])
    rows = {row.module: row for row in trained_rows(found.model)}
    assert (rows["embed_tokens"].trained, rows["embed_tokens"].total) == (3 * 64, 608 * 64)
    assert found.trainable == 3 * 64 + 64
