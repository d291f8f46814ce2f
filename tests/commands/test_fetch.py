"""Copies of what comes with Newt; a file of the user's is never lost."""

from __future__ import annotations

import json

import pytest

from newt.commands.fetch import copy, source_of

CONFIGS = {
    "zero1", "zero1_torch_compile", "zero2", "zero2_torch_compile", "zero3", "zero3_bf16", "zero3_bf16_cpuoffload_all",
    "zero3_bf16_cpuoffload_params",
}  # fmt: skip


def test_the_deepspeed_configs(newt, tmp_path):
    code, out, _ = newt("fetch", "deepspeed_configs", "--dest", tmp_path / "ds")
    assert code == 0
    assert out.splitlines()[-1] == f"{tmp_path / 'ds'}: 8 new"
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "ds").glob("[!.]*.json")}
    assert set(found) == CONFIGS
    for name, content in found.items():
        assert content["zero_optimization"]["stage"] == int(name[4]), name
        assert ("compile" in content) == ("torch_compile" in name)
        assert content["train_batch_size"] == "auto"
        assert (content["bf16"]["enabled"] is True) == ("bf16" in name)
        zero = content["zero_optimization"]
        assert ("offload_param" in zero) == ("cpuoffload" in name)
        assert ("offload_optimizer" in zero) == name.endswith("_all")
        if zero["stage"] == 3:
            assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert newt("fetch", "deepspeed_configs", "--dest", tmp_path / "ds")[1] == f"{tmp_path / 'ds'}: 8 unchanged\n"


@pytest.mark.parametrize("what", ["examples", "docs"])
def test_a_checkout_serves_its_own_folders(what):
    assert any(source_of(what).rglob("*"))


def test_changed_files(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    (source / "a.yml").write_text("1")
    (source / "inner" / "b.sh").write_text("1")
    (source / "inner" / "b.sh").chmod(0o755)
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.pyc").write_text("")
    assert dict(copy(source, target)) == {"a.yml": "new", "inner/b.sh": "new"}
    assert (target / "inner" / "b.sh").stat().st_mode & 0o777 == 0o755
    (target / "a.yml").write_text("mine")
    (source / "a.yml").write_text("2")
    (source / "inner" / "b.sh").write_text("2")
    # b.sh is as it was copied, so a newer version may take its place; a.yml is the user's.
    assert dict(copy(source, target)) == {"a.yml": "kept", "inner/b.sh": "updated"}
    assert (target / "a.yml").read_text() == "mine"
    assert dict(copy(source, target, force=True)) == {"a.yml": "updated", "inner/b.sh": "unchanged"}
    assert (target / "a.yml").read_text() == "2"


def test_a_file_that_was_never_fetched_is_kept(newt, tmp_path):
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "zero1.json").write_text("{}")
    code, out, _ = newt("fetch", "deepspeed_configs", "--dest", tmp_path / "ds")
    assert code == 0
    assert "kept: " in out
    assert (tmp_path / "ds" / "zero1.json").read_text() == "{}"


def test_a_place_that_is_a_file(newt, tmp_path):
    (tmp_path / "ds").write_text("")
    code, _, err = newt("fetch", "deepspeed_configs", "--dest", tmp_path / "ds")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "cannot be written" in err
    assert newt("fetch", "nothing")[0] == 2
