"""Cut cross-entropy."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"cut_cross_entropy": True},
            "needs CutCrossEntropyPlugin. Add the line '- CutCrossEntropyPlugin' below plugins:",
        ),
        (
            {"plugins": ["CutCrossEntropyPlugin", "LigerPlugin"], "liger_fused_linear_cross_entropy": True},
            "cut_cross_entropy: cannot be used with liger_fused_linear_cross_entropy.",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(known=True),
            {"plugins": ["CutCrossEntropyPlugin"]},
            "Run: pip uninstall -y cut-cross-entropy, then: pip install cut-cross-entropy.",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"cut-cross-entropy": "1"}), {"plugins": ["CutCrossEntropyPlugin"]}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"cut_cross_entropy": False},
        {"plugins": ["axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"], "cut_cross_entropy": True},
        {
            "plugins": ["CutCrossEntropyPlugin", "LigerPlugin"],
            "cut_cross_entropy": False,
            "liger_fused_linear_cross_entropy": True,
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["CutCrossEntropyPlugin"]}, {"plugins"}),
        ({"plugins": ["CutCrossEntropyPlugin"], "cut_cross_entropy": True}, {"plugins", "cut_cross_entropy"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
