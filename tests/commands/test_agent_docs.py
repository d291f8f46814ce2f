"""Pages for agents: there, true, and in the package."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from newt import cli
from newt.commands import agent_docs
from newt.commands.agent_docs import _BASE, SAMPLES, TOPICS, page, title
from newt.commands.shared import find_problems
from newt.config.pending import PENDING, PENDING_ENTRY
from newt.config.rename import REMOVED, RENAMED
from newt.models.isolation import proofs
from newt.registry import sections
from newt.run import EntryType


def test_the_list_has_every_topic_with_its_title(newt):
    code, out, _ = newt("agent-docs", "--list")
    assert code == 0
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [[topic, title(topic)] for topic in TOPICS]
    assert len(TOPICS) == 8


def test_the_overview_is_the_default(newt):
    assert newt("agent-docs")[1] == newt("agent-docs", "overview")[1] == page("overview")
    assert "fine-tunes language models" in page("overview")


@pytest.mark.parametrize(
    ("topic", "word"),
    [
        ("sft", "supervised fine-tuning"), ("grpo", "reward functions"), ("preference_tuning", "chosen"),
        ("reward_modelling", "Bradley-Terry"), ("pretraining", "completion"), ("model_architectures", "sdpa"),
        ("new_model_support", "prove_families.py"),
    ],
)  # fmt: skip
def test_each_topic_speaks_of_its_method(newt, topic, word):
    code, out, _ = newt("agent-docs", topic.replace("_", "-"))
    assert code == 0
    assert word in out


def test_an_unknown_topic_lists_the_others(newt):
    code, out, err = newt("agent-docs", "rlhf")
    assert (code, out) == (2, "")
    assert err == f"there is no topic 'rlhf'. There are: {', '.join(TOPICS)}.\n"


@pytest.mark.parametrize("topic", TOPICS)
def test_pages_name_only_what_exists(topic):
    text = page(topic)
    for name in re.findall(r"\bnewt ([a-z-]+)\b(?=[ `\n])", text):
        assert name in cli.COMMANDS or name == "says", name
    known = {key for section in sections() for key in section.model_fields} | PENDING | set(RENAMED) | set(REMOVED)
    entry = PENDING_ENTRY | set(EntryType().others)
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        for key, value in yaml.safe_load(block).items():
            assert key in known, key
            if key == "datasets":
                assert {name for item in value for name in item} <= entry


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_that_answer_what_works_have_no_mistake(name):
    _, problems = find_problems({**_BASE, **SAMPLES[name]}, facts=False)
    assert [str(problem) for problem in problems if problem.kind == "invalid"] == []


def test_what_works_is_asked_of_the_code(monkeypatch):
    from newt.features.gradio import GradioSettings

    agent_docs.missing.cache_clear()
    assert "LoRA: works" in page("overview")
    monkeypatch.setitem(agent_docs.SAMPLES, "lora", {**SAMPLES["lora"], "gradio_title": "x"})
    monkeypatch.setattr(GradioSettings, "coming", frozenset({"gradio_title"}))
    agent_docs.missing.cache_clear()
    assert "LoRA: not supported yet (`gradio_title`)" in page("overview")
    monkeypatch.undo()
    agent_docs.missing.cache_clear()


def test_every_command_and_family_is_named():
    assert all(f"newt {name} " in page("overview") for name in cli.COMMANDS)
    assert all(kind in page("model_architectures") for kind, proof in proofs().items() if proof.packing)


def test_nothing_heavy_is_imported_for_a_page():
    script = "import sys; from newt.commands.agent_docs import page; page('overview'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "datasets", "numpy"} & set(done.stdout.split())
