"""causal_conv1d that is there, and cannot be imported."""

import sys

import pytest
from tests.helpers import make_run
from transformers.models.lfm2 import modeling_lfm2
from transformers.models.llama import modeling_llama

from newt.extend import Facts
from newt.models.broken_packages import refuse_broken_conv, warn_of_broken_conv
from newt.support.errors import NewtError
from newt.support.log import warn


@pytest.fixture
def broken(tmp_path, monkeypatch):
    folder = tmp_path / "causal_conv1d"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('causal_conv1d_cuda.so: undefined symbol: _ZN2at4')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "causal_conv1d", raising=False)
    warn.cache_clear()


HINT = "It was built for another torch. Uninstall it: pip uninstall causal-conv1d"


def test_a_model_that_uses_it_is_told_to_uninstall_it(broken, capsys):
    model = modeling_lfm2.Lfm2ForCausalLM.__new__(modeling_lfm2.Lfm2ForCausalLM)
    warn_of_broken_conv(model, [])
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be imported, and is not used: causal_conv1d_cuda.so: undefined symbol: _ZN2at4." in line
    assert HINT in line


def test_other_models_and_working_packages_are_not(broken, tmp_path, capsys):
    warn_of_broken_conv(modeling_llama.LlamaForCausalLM.__new__(modeling_llama.LlamaForCausalLM), [])
    (tmp_path / "causal_conv1d" / "__init__.py").write_text("")
    warn_of_broken_conv(modeling_lfm2.Lfm2ForCausalLM.__new__(modeling_lfm2.Lfm2ForCausalLM), [])
    assert capsys.readouterr().err == ""


def test_a_model_that_cannot_be_loaded_without_it_says_what_to_do(broken):
    error = ImportError("causal_conv1d_cuda.so: undefined symbol: _ZN2at4")
    with pytest.raises(NewtError) as caught:
        refuse_broken_conv(error, "base_model", "some/model")
    assert str(caught.value) == f"base_model: cannot load some/model: {error}. {HINT}"


def test_a_package_that_is_missing_and_other_errors_are_left_to_others(broken):
    refuse_broken_conv(ImportError("no module named flash_attn"), "base_model", "some/model")
    refuse_broken_conv(ValueError("causal_conv1d"), "base_model", "some/model")


def test_it_is_tried_only_where_it_is_installed():
    steps = len(make_run(Facts(known=True)).load_plan().prepare_base)
    found = make_run(Facts(known=True, packages={"causal-conv1d": "1.5"})).load_plan().prepare_base
    assert len(found) == steps + 1
