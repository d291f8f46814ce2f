"""LLM Compressor."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"llmcompressor": {"recipe": {"a": 1}}}, "needs LLMCompressorPlugin"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(known=True),
            {"plugins": ["LLMCompressorPlugin"], "llmcompressor": {"recipe": "r.yml"}},
            "needs the package llmcompressor",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (
            Facts(known=True, packages={"llmcompressor": "1"}),
            {"plugins": ["LLMCompressorPlugin"], "llmcompressor": {"recipe": "r.yml"}},
        ),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"plugins": ["LLMCompressorPlugin"], "llmcompressor": {"recipe": {"a": 1}, "save_compressed": True}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["LLMCompressorPlugin"], "llmcompressor": {"recipe": "r.yml"}}, {"plugins", "llmcompressor"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
