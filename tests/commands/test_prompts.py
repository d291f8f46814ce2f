"""Prompt styles of ``--prompter``."""

from __future__ import annotations

import pytest
from tests.helpers import make_run

from newt.commands.prompts import PROMPTERS, is_raw, prompter, reads_conversations
from newt.support.errors import NewtError

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nName a newt.\n\n### Response:\n"
)


@pytest.mark.parametrize("name", ["alpaca", "AlpacaPrompter", " alpacaprompter "])
@pytest.mark.parametrize("train_on_inputs", [False, True])
def test_the_prompt_is_that_of_the_training_rows(name, train_on_inputs):
    assert prompter(make_run(train_on_inputs=train_on_inputs), name)("Name a newt.") == ALPACA


def test_the_text_alone():
    assert prompter(make_run(), "completion")("Once upon") == "Once upon"


@pytest.mark.parametrize(("name", "raw"), [("None", True), ("none", True), ("null", True), ("alpaca", False)])
def test_none_means_the_text_as_it_is(name, raw):
    assert is_raw(name) is raw


@pytest.mark.parametrize("name", sorted(PROMPTERS))
def test_every_older_prompter_has_a_style(name):
    assert "Name a newt." in prompter(make_run(), name)("Name a newt.")


@pytest.mark.parametrize("name", ["nonsense", "os.system", "chatml.intel"])
def test_an_unknown_style_lists_some(name):
    with pytest.raises(NewtError, match=f"--prompter: there is no prompt style '{name}'. For example: alpaca"):
        prompter(make_run(), name)


@pytest.mark.parametrize("name", ["chat_template", "explainchoice"])
def test_what_is_more_than_a_text_is_refused(name):
    with pytest.raises(NewtError, match=f"{name} does not make a prompt of one text. Leave --prompter away"):
        prompter(make_run(), name)("x")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, True),
        ({"datasets": [{"path": "r.jsonl", "type": "alpaca"}]}, False),
        ({"datasets": [{"path": "r.jsonl", "type": "alpaca"}], "chat_template": "chatml"}, True),
    ],
)
def test_which_models_were_trained_on_conversations(keys, expected):
    assert reads_conversations(make_run(**keys)) is expected
