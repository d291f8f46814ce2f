"""Folders whose weights are not all there."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from tests.models.tiny import load

from newt.models.weight_files import LFS, tensors_of, what_is_missing
from newt.support.errors import NewtError


@pytest.fixture
def sharded(tmp_path):
    files = {"model-1.safetensors": ["a", "b"], "model-2.safetensors": ["c"]}
    for file, names in files.items():
        save_file({name: torch.ones(3, 4) for name in names}, tmp_path / file, metadata={"format": "pt"})
    places = {name: file for file, names in files.items() for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return tmp_path


def test_a_whole_folder_is_right(sharded, model_dir):
    assert what_is_missing(sharded) is None
    assert what_is_missing(model_dir) is None
    assert tensors_of(sharded / "model-1.safetensors") == {"a", "b"}


def test_a_missing_file(sharded):
    (sharded / "model-2.safetensors").unlink()
    assert what_is_missing(sharded)[0].endswith("incomplete: model-2.safetensors is missing (1 of 2 files).")


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_a_file_that_was_cut_off(sharded, left):
    path = sharded / "model-2.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    found, hint = what_is_missing(sharded)
    assert found == f"{path} is damaged or cut off ({path.stat().st_size} bytes)."
    assert hint == "Copy the model again."


def test_an_index_that_names_what_no_file_holds(sharded):
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["d"] = "model-2.safetensors"
    index.write_text(json.dumps(content))
    assert what_is_missing(sharded)[0] == f"{index} says that model-2.safetensors holds d, but it does not."
    index.write_text("{")
    assert what_is_missing(sharded)[0] == f"{index} is damaged."


def test_a_pointer_instead_of_weights(sharded):
    path = sharded / "model-1.safetensors"
    path.write_bytes(LFS + b"/spec/v1\noid sha256:1\nsize 9\n")
    found = what_is_missing(sharded)
    assert found == (f"{path} is only a pointer to the weights.", "Run git lfs pull in its folder.")


def test_loading_stops_with_one_line(model_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "copy")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(NewtError, match=r"base_model: .*model\.safetensors is damaged or cut off") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_pickle_files(model_dir, tmp_path):
    """Those with numbers alone are read; those that could run code are not."""
    from safetensors.torch import load_file

    folder = shutil.copytree(model_dir, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert load(folder).total == load(model_dir).total
    torch.save({**weights, "evil": print}, folder / "pytorch_model.bin")
    with pytest.raises(NewtError, match=r"hold more than numbers.*Take the checkpoint as safetensors"):
        load(folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(NewtError, match=r"pytorch_model\.bin is damaged or cut off"):
        load(folder)
