"""Pages for agents: there, true, and in the package."""

from __future__ import annotations

import re

import pytest
import yaml

from newt import cli
from newt.commands.agent_docs import TOPICS, page, title
from newt.config.pending import PENDING, PENDING_ENTRY
from newt.config.rename import REMOVED, RENAMED
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
        ("new_model_support", "isolates_packed"),
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
