"""An entry with several names stands for several entries."""

from pathlib import Path

from newt.config.core import Data
from newt.config.load import load
from newt.registry import sections
from newt.run import EntryType

YAML = """base_model: some/model
datasets:
  - path: org/a
    name: [one, two]
    type: completion
    feild: body
  - path: org/b
    type: completion
    shards_idx: 3
learning_rate: 0.1
micro_batch_size: 1
gradient_accumulation_steps: 1
"""


def test_one_entry_for_each_name(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text(YAML)
    loaded = load(path, (), sections=sections(), entry_type=EntryType())
    assert loaded.config is not None
    entries = loaded.config[Data].datasets or ()
    assert [(entry.path, entry.name) for entry in entries] == [("org/a", "one"), ("org/a", "two"), ("org/b", None)]
    assert [(problem.keys[0], problem.where and problem.where.line) for problem in loaded.problems] == [
        ("datasets.0.feild", 6),
        ("datasets.1.feild", 6),
    ]
    places = {key: loaded.config.where(key) for key in ("datasets.1.name", "datasets.2.shards_idx", "datasets.2")}
    assert [place.line for place in places.values() if place] == [4, 9, 7]
    assert "datasets.2.shards_idx" in loaded.config.given
    assert "datasets.1.shards_idx" not in loaded.config.given


def test_the_mapping_of_the_caller_stays() -> None:
    mapping = {"base_model": "m", "datasets": [{"path": "org/a", "name": ["x", "y"], "type": "completion"}]}
    loaded = load(mapping, (), sections=sections(), entry_type=EntryType())
    assert loaded.config is not None
    assert len(loaded.config[Data].datasets or ()) == 2
    assert mapping["datasets"] == [{"path": "org/a", "name": ["x", "y"], "type": "completion"}]
