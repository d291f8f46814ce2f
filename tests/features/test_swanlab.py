"""SwanLab."""

import json

import pytest
from tests.helpers import complaints, unsupported
from tests.training.tracked import callback_of, drive

from newt.extend import Facts

KEYS = {"plugins": ["SwanLabPlugin"], "use_swanlab": True, "swanlab_project": "p"}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"use_swanlab": True, "swanlab_project": "p"}, "use_swanlab: needs SwanLabPlugin"),
        ({"plugins": ["SwanLabPlugin"], "use_swanlab": True}, "needs swanlab_project"),
        ({"plugins": ["SwanLabPlugin"], "swanlab_project": "p"}, "has no effect: use_swanlab is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_swanlab": False},
        {"plugins": ["SwanLabPlugin"], "use_swanlab": True, "swanlab_project": "p"},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize("mode", ["local", "offline"])
def test_a_run_on_this_machine(tmp_path, mode):
    pytest.importorskip("swanlab")
    drive(callback_of(tmp_path, **KEYS, swanlab_mode=mode), tmp_path)
    run_id = json.loads((tmp_path / "trackers.json").read_text())["swanlab"]
    (folder,) = (tmp_path / "swanlog").glob(f"run-*-{run_id}")
    (store,) = folder.glob("*.swanlab")
    content = store.read_bytes()
    for name in (b"train/loss", b"eval/loss", b"answers"):
        assert name in content


def test_the_key_of_the_account_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SWANLAB_SAVE_DIR", str(tmp_path))
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    facts = Facts(known=True, packages={"swanlab": "1"})
    assert any("there is no key of SwanLab" in text for text in complaints(facts, **KEYS))
    assert complaints(facts, **KEYS, swanlab_mode="local") == []
    assert complaints(facts, **KEYS, swanlab_api_key="x") == []
    assert any("needs the package swanlab" in text for text in complaints(Facts(known=True), **KEYS))


def test_a_method_that_samples_no_answers_has_none_to_log():
    keys = {**KEYS, "swanlab_log_completions": True, "swanlab_completion_log_interval": 5}
    found = complaints(**keys)
    assert [text.partition(":")[0] for text in found] == ["swanlab_log_completions", "swanlab_completion_log_interval"]
    assert all("has no effect: this method samples no answers" in text for text in found)
    assert complaints(**KEYS, swanlab_log_completions=False) == []
    online = {"rl": "grpo", "datasets": [{"path": "rows.jsonl", "type": "rows.prompts"}]}
    assert "swanlab_log_completions" in unsupported(**KEYS, **online, swanlab_log_completions=True)
