"""DenseMixer."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"dense_mixer": True}, "needs DenseMixerPlugin"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(model={"model_type": "llama"}),
            {"plugins": ["DenseMixerPlugin"], "dense_mixer": True},
            "dense_mixer: does not know llama models",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(model={"model_type": "olmoe"}), {"plugins": ["DenseMixerPlugin"], "dense_mixer": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"dense_mixer": False},
        {"plugins": ["DenseMixerPlugin"], "dense_mixer": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["DenseMixerPlugin"], "dense_mixer": True}, {"plugins", "dense_mixer"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
