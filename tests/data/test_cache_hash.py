"""The hash of prepared data: what the rows depend on changes it, nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.pipeline import FakeTokenizer, config, plan_of, write_ids
from tests.helpers import make_run

from newt.config.core import Dataset
from newt.data import cache
from newt.data.sources import read
from newt.extend import Format
from newt.layouts import FORMATS


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_ids(tmp_path / "a.jsonl", [5] * 8)


def hash_of(*, datasets: Any = None, tokenizer: Any = None, **keys: Any) -> str:
    """Hash of the prepared data of a whole config."""
    entries = datasets or [{"path": "a.jsonl", "type": "chat_template"}]
    made = make_run(datasets=entries, **keys).data_plan()
    sources = [read(fmt.entry, default_split="train", cfg=made.cfg) for fmt in made.formats]
    return cache.fingerprint(cache.inputs(made, tokenizer or FakeTokenizer(), sources, []))


GLOBAL: dict[str, Any] = {
    "sequence_len": 100, "eval_sequence_len": 100, "sample_packing": True, "group_by_length": True,
    "dataset_exact_deduplication": True, "chat_template": "chatml", "chat_template_jinja": "{{ messages }}",
    "chat_template_kwargs": {"a": 1}, "default_system_message": "x", "eot_tokens": ["x"], "train_on_inputs": True,
    "excess_length_strategy": "truncate", "min_sample_len": 3, "val_set_size": 0.1, "seed": 1,
    "shuffle_merged_datasets": False, "shuffle_before_merging_datasets": True, "num_dataset_shards_to_save": 2,
    "split_special_tokens": True, "weight_by": "rows",
}  # fmt: skip
"""Key -> another value than the default."""

OF_PACKING: dict[str, Any] = {
    "sample_packing_bin_size": 7, "sample_packing_group_size": 9, "sample_packing_sequentially": True,
    "eval_sample_packing": False,
}  # fmt: skip


@pytest.mark.parametrize("key", GLOBAL)
def test_every_key_of_the_pipeline_changes_the_hash(key: str) -> None:
    assert hash_of(**{key: GLOBAL[key]}) != hash_of()


@pytest.mark.parametrize("key", OF_PACKING)
def test_every_key_of_packing_changes_the_hash(key: str) -> None:
    packed = {"sample_packing": True, "val_set_size": 0.5}
    assert hash_of(**packed, **{key: OF_PACKING[key]}) != hash_of(**packed)


def test_the_temperature_of_distillation_is_a_part_of_the_hash() -> None:
    assert "kd_temperature" in cache._OF_USE


HARMLESS: dict[str, Any] = {
    "output_dir": "x", "num_epochs": 3, "learning_rate": 1.0, "dataset_num_proc": 3, "dataset_keep_in_memory": True,
    "dataset_prepared_path": "x",
}  # fmt: skip


@pytest.mark.parametrize("key", HARMLESS)
def test_what_does_not_touch_the_rows_does_not_change_the_hash(key: str) -> None:
    assert hash_of(**{key: HARMLESS[key]}) == hash_of()


def test_the_order_of_keys_does_not_change_the_hash() -> None:
    keys = {"seed": 3, "val_set_size": 0.5, "sequence_len": 99}
    entry = {"path": "a.jsonl", "type": "chat_template", "roles_to_train": ["assistant", "user"], "split": "train"}
    backwards = dict(reversed(entry.items()))
    assert hash_of(datasets=[entry], **keys) == hash_of(datasets=[backwards], **dict(reversed(keys.items())))


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.__name__)
def test_every_key_of_an_entry_changes_the_hash(fmt: type[Format]) -> None:
    entry = fmt.Settings.model_construct(path="a.jsonl", type=fmt.name)
    cfg = config([entry])
    source = read(Dataset(path="a.jsonl"), default_split="train", cfg=cfg)
    named = plan_of(cfg).formats[0]
    before = cache.fingerprint(cache._of_entry(entry, named, source))
    for key in fmt.Settings.model_fields:
        changed = entry.model_copy(update={key: "another"})
        same = cache.fingerprint(cache._of_entry(changed, named, source)) == before
        assert same == (key == "storage_options"), key


LISTED = """path type shards split chat_template chat_template_jinja data_files drop_system_message ds_type field
field_messages field_tools max_completion_length message_field_role message_field_content message_field_training
message_field_training_detail message_property_mappings name preprocess_shards revision roles roles_to_train shards_idx
split_thinking step_separator template_thinking_key text_column train_on_eos train_on_eot train_on_last_step_only"""


def test_the_listed_keys_are_keys_of_entries() -> None:
    assert set(LISTED.split()) <= {key for fmt in FORMATS for key in fmt.Settings.model_fields}


def test_the_code_that_fills_prompts_is_a_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_of()
    read_before = cache.sha256_file
    monkeypatch.setattr(cache, "sha256_file", lambda path: "new" if path.name == "rows.py" else read_before(path))
    assert hash_of() != before


def test_a_module_of_the_user_may_read_any_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows_for_the_hash.py").write_text("def rows(row):\n    return {'input_ids': [1], 'labels': [1]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = [{"path": "a.jsonl", "type": "rows_for_the_hash.rows"}]
    assert hash_of(datasets=own, learning_rate=0.5) != hash_of(datasets=own)
    assert hash_of(datasets=own, output_dir="elsewhere") == hash_of(datasets=own)
    assert hash_of(learning_rate=0.5) == hash_of()
