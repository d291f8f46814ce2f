"""Config files that name the special ids of the tokenizer next to them."""

import json
import shutil

import pytest

from newt.models.special_ids import follow_tokenizer


@pytest.fixture
def folder(model_dir, tmp_path):
    return shutil.copytree(model_dir, tmp_path / "model")


def put(folder, name, **values):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **values}))


def get(folder, name, key="eos_token_id"):
    return json.loads((folder / name).read_text())[key]


def test_nothing_is_written_where_all_agree(folder):
    follow_tokenizer(folder)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert follow_tokenizer(folder) == ()
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_a_list_of_ends_that_has_the_tokenizers_stays(folder):
    eos = get(folder, "config.json")
    put(folder, "config.json", eos_token_id=[7, eos])
    put(folder, "generation_config.json", eos_token_id=[7, eos])
    assert follow_tokenizer(folder) == ()
    assert get(folder, "config.json") == [7, eos]
    assert get(folder, "generation_config.json") == [eos, 7]


def test_the_text_part_of_a_composite_model(folder):
    eos = get(folder, "config.json")
    config = json.loads((folder / "config.json").read_text())
    del config["eos_token_id"]
    (folder / "config.json").write_text(json.dumps({**config, "text_config": {"eos_token_id": 9}}))
    assert follow_tokenizer(folder) == (f"the model's eos_token_id 9 is now {eos}, as the tokenizer has it",)
    assert get(folder, "config.json", "text_config") == {"eos_token_id": eos}
    assert "eos_token_id" not in json.loads((folder / "config.json").read_text())


def test_a_tokenizer_that_cannot_be_read_here_changes_nothing(folder):
    (folder / "tokenizer.json").unlink()
    put(folder, "config.json", eos_token_id=9)
    assert follow_tokenizer(folder) == ()
    assert get(folder, "config.json") == 9
