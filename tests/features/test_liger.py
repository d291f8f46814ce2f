"""Liger kernels."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"liger_rope": True}, "liger_rope: needs LigerPlugin. Add the line '- LigerPlugin' below plugins:"),
        (
            {
                "plugins": ["axolotl.integrations.liger.LigerPlugin"],
                "liger_cross_entropy": True,
                "liger_fused_linear_cross_entropy": True,
            },
            "liger_cross_entropy: cannot be used with liger_fused_linear_cross_entropy.",
        ),
        (
            {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_use_token_scaling": True},
            "needs liger_fused_linear_cross_entropy",
        ),
        (
            {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rms_norm": True, "tensor_parallel_size": 2},
            "liger_rms_norm: cannot be used with tensor_parallel_size.",
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
            {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rope": True},
            "needs the package liger-kernel",
        ),
        (
            Facts(model={"model_type": "gemma4_text"}),
            {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rope": True},
            "liger_rope: is not applied to Gemma 4",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (
            Facts(known=True, packages={"liger-kernel": "1"}),
            {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rope": True},
        ),
        (
            Facts(model={"model_type": "gemma4_text"}),
            {"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rms_norm": True},
        ),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"liger_rope": False},
        {
            "plugins": ["axolotl.integrations.liger.LigerPlugin"],
            "liger_rope": True,
            "liger_rms_norm": True,
            "liger_fused_linear_cross_entropy": True,
            "liger_use_token_scaling": True,
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rope": True}, {"plugins", "liger_rope"}),
        ({"liger_rope": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
