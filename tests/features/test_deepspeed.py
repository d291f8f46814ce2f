"""DeepSpeed."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"deepspeed": {"a": 1}, "fsdp_version": 2, "fsdp_config": {"offload_params": False}},
            "deepspeed: cannot be used with fsdp_config.",
        ),
        ({"deepspeed": {"a": 1}, "fsdp": ["full_shard"]}, "deepspeed: cannot be used with fsdp."),
        ({"deepcompile": True}, "has no effect: deepspeed is not set"),
        ({"deepspeed": {"a": 1}, "optimizer": "muon"}, "muon cannot be used with DeepSpeed"),
        (
            {"deepspeed": {"a": 1}, "optimizer": "q_galore_adamw8bit"},
            "q_galore_adamw8bit cannot be used with DeepSpeed",
        ),
        ({"deepspeed": {"a": 1}, "optimizer": "flash_adamw"}, "flash_adamw cannot be used with DeepSpeed"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (Facts(known=True), {"deepspeed": "no/such.json"}, "deepspeed: there is no file no/such.json."),
        (Facts(known=True), {"deepspeed": {"a": 1}}, "needs the package deepspeed"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"deepspeed": "1"}), {"deepspeed": {"a": 1}}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"deepcompile": False},
        {"deepspeed": {"zero_optimization": {"stage": 2}}, "deepcompile": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"deepspeed": {"a": 1}, "deepcompile": True}, {"deepspeed", "deepcompile"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("{", "is not valid JSON"), ("[]", "does not hold a mapping"), ('{"zero_optimization": {"stage": 3}}', None)],
)
def test_its_file_is_read(text, wrong, tmp_path):
    path = tmp_path / "ds.json"
    path.write_text(text)
    found = complaints(Facts(known=True, packages={"deepspeed": "1"}), deepspeed=str(path))
    assert [wrong in message for message in found] == ([True] if wrong else [])
    assert complaints(deepspeed="no/such.json") == [], "without facts no file is looked at"
