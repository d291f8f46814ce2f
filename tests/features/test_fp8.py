"""8-bit training."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"fp8": True}, "fp8: is hardly faster without torch_compile"),
        (
            {"fp8": True, "torch_compile": True, "fp8_enable_fsdp_float8_all_gather": True},
            "fp8_enable_fsdp_float8_all_gather: needs FSDP 2.",
        ),
        (
            {
                "fp8": True,
                "torch_compile": True,
                "fp8_enable_fsdp_float8_all_gather": True,
                "fp8_config": {"recipe": "rowwise"},
                "fsdp_version": 2,
                "fsdp_config": {"offload_params": False},
            },
            "cannot be used with the recipe rowwise",
        ),
        (
            {"fp8": True, "torch_compile": True, "fsdp_version": 2, "fsdp_config": {"activation_checkpointing": True}},
            "may be slower than bf16",
        ),
        ({"fp8_enable_fsdp_float8_all_gather": True}, "has no effect: fp8 is not on"),
        ({"fp8": True, "load_in_4bit": True, "adapter": "qlora"}, "fp8: cannot be used with load_in_4bit"),
        ({"fp8": True, "load_in_8bit": True, "adapter": "lora"}, "fp8: cannot be used with load_in_8bit"),
        ({"fp8": True, "qat": {"weight_dtype": "int4"}}, "fp8: cannot be used with qat"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(known=True, gpus=1, capability=(8, 0), packages={"torchao": "1"}),
            {"fp8": True},
            "needs a GPU of compute capability 9.0",
        ),
        (Facts(known=True, gpus=1, capability=(9, 0)), {"fp8": True}, "needs the package torchao"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, gpus=1, capability=(9, 0), packages={"torchao": "1"}), {"fp8": True, "torch_compile": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"fp8": False},
        {"fp8": True, "torch_compile": True},
        {
            "fp8": True,
            "torch_compile": True,
            "fp8_enable_fsdp_float8_all_gather": True,
            "fp8_config": {"recipe": "tensorwise"},
            "fsdp_version": 2,
            "fsdp_config": {"offload_params": False},
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"fp8": True}, set()),
        ({"fp8": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
