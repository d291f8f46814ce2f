"""What is known without loading anything, and what is wrong with folders."""

import json
import re
import shutil
import subprocess
import sys
import urllib.error

import pytest
from tests.helpers import make_config

from newt.models import facts
from newt.models.facts import gather, problems, what_is_wrong


def texts(**keys):
    return [str(problem) for problem in problems(make_config(**keys))]


def test_the_config_of_a_folder_is_known(model_dir):
    found = gather(make_config(base_model=str(model_dir)))
    assert found.known
    assert found.model_type == "llama"
    assert found.model["vocab_size"] == 608
    assert found.packages["transformers"]


def test_importing_and_gathering_need_no_torch(model_dir):
    code = (
        "import sys; from newt.models import facts; from tests.helpers import make_config;"
        f"cfg = make_config(base_model={str(model_dir)!r}); facts.gather(cfg); list(facts.problems(cfg));"
        "facts.gather(make_config(base_model='org/model'));"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_gpus_are_counted_as_they_are_visible(monkeypatch):
    class Done:
        stdout = "9.0\n8.6\n"

    monkeypatch.setattr(facts.subprocess, "run", lambda *args, **kwargs: Done)
    for visible, expected in (
        (None, [(9, 0), (8, 6)]),
        ("1", [(8, 6)]),
        ("", []),
        ("-1", []),
        ("1,0", [(8, 6), (9, 0)]),
    ):
        facts._capabilities.cache_clear()
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert facts._capabilities() == expected
    facts._capabilities.cache_clear()


def test_a_good_folder_has_no_problems(model_dir):
    assert texts(base_model=str(model_dir)) == []


def test_a_misspelt_folder_suggests_the_right_one(model_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_dir, tmp_path / "models" / "smol")
    hint = "Did you mean"
    assert texts(base_model=str(tmp_path / "models" / "smoll"))[0].endswith(f"{hint} {tmp_path}/models/smol?")
    assert texts(base_model="models/smoll") == [f"base_model: there is no folder models/smoll. {hint} models/smol?"]
    assert "is neither a folder nor a Hub id. Name a folder" in texts(base_model="nothing")[0]


def test_a_hub_id_that_is_not_cached_is_a_problem_only_offline(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "org/model is not in the local cache, and HF_HUB_OFFLINE is set" in texts(base_model="org/model")[0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert texts(base_model="org/model") == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"has no config\.json"),
        ({"adapter_config.json": "{}"}, "holds an adapter, not a model.* Name it as lora_model_dir"),
        ({"x.gguf": ""}, "holds a GGUF file .*newt import-gguf"),
        ({"config.json": "{"}, "is not valid JSON"),
        ({"config.json": "{}"}, "has no weights"),
        ({"config.json": "{}", "model.safetensors.index.json": "[]"}, r"index\.json is damaged"),
    ],
)
def test_what_is_wrong_with_a_folder(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert re.search(message, " ".join(what_is_wrong(str(tmp_path))))


def test_a_missing_shard_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    shards = {f"w{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / shards["w1"]).write_text("")
    (tmp_path / shards["w3"]).write_text("")
    message, _ = what_is_wrong(str(tmp_path))
    assert "incomplete: model-00002-of-00003.safetensors is missing (1 of 3 files)" in message
    assert what_is_wrong(str(tmp_path), weights=False) is None


def test_a_folder_without_a_tokenizer_is_a_problem(model_dir, tokenizer_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "holds no tokenizer files. Set tokenizer_config" in texts(base_model=str(folder))[0]
    assert texts(base_model=str(folder), tokenizer_config=str(tokenizer_dir)) == []
    wrong = texts(base_model=str(model_dir), tokenizer_config=str(tmp_path / "modle"))
    assert wrong[0].startswith("tokenizer_config: ")
    assert "Did you mean" in wrong[0]


def test_random_weights_need_no_files(model_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert texts(base_model=str(folder), reinit_weights=True) == []


def test_a_hub_that_cannot_be_reached_is_asked_once_and_says_nothing(monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append(timeout)
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    facts._ask_hub.cache_clear()
    cfg = make_config(base_model="nobody/has-this-model")
    assert gather(cfg).model is None
    assert list(problems(cfg)) == []
    assert asked == [facts.HUB_SECONDS]


def test_a_model_that_the_hub_does_not_have_is_a_problem(monkeypatch):
    def missing(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 404, "Not Found", {}, None)

    monkeypatch.setattr("urllib.request.urlopen", missing)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    facts._ask_hub.cache_clear()
    (problem,) = problems(make_config(base_model="nobody/has-this-model"))
    assert "the Hub has no model nobody/has-this-model" in str(problem)
    facts._ask_hub.cache_clear()
