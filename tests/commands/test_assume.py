"""Facts of a machine that is not at hand."""

from __future__ import annotations

import pytest

from newt.commands.assume import parse_assumed


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpus=8,capability=9.0", {"gpus": 8, "capability": (9, 0), "cpu_bf16": False}),
        ("gpus=1, capability=sm_80", {"gpus": 1, "capability": (8, 0), "cpu_bf16": False}),
        ("capability=12.0,gpus=2", {"gpus": 2, "capability": (12, 0), "cpu_bf16": False}),
        ("cpu_bf16=true", {"gpus": 0, "capability": None, "cpu_bf16": True}),
    ],
)
def test_what_is_read(text, found):
    assert parse_assumed(text) == found


def test_packages_join_those_that_are_installed():
    packages = parse_assumed("packages=Flash-Attn+liger-kernel==0.8.1")["packages"]
    assert packages["flash-attn"] == "assumed"
    assert packages["liger-kernel"] == "0.8.1"
    assert "torch" in packages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu=8", "'gpu' cannot be assumed. Did you mean gpus?"),
        ("gpus=many,capability=9.0", "gpus must be a whole number, got 'many'."),
        ("gpus=8", "gpus needs capability"),
        ("capability=9.0", "capability needs gpus"),
        ("gpus=1,capability=nine", "capability must be like 9.0, got 'nine'."),
        ("cpu_bf16=perhaps", "cpu_bf16 must be true or false"),
        ("packages=a b", "packages must be names with + between them"),
        ("gpus", "gpus needs a value."),
        ("gpus=1,gpus=2,capability=9.0", "gpus is given twice."),
        ("", "nothing is assumed."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.").replace("+", r"\+")):
        parse_assumed(text)


def test_check_answers_for_another_machine(newt, write_config):
    config = write_config(float32=None, bf16=True)
    code, out, _ = newt("check", config, "--assume", "gpus=1,capability=7.5")
    assert code == 2
    assert "bf16: this machine does not compute in bfloat16." in out
    assert newt("check", config, "--assume", "gpus=8,capability=9.0")[0] == 0
    code, out, err = newt("check", config, "--assume", "gpus=x")
    assert (code, out) == (2, "")
    assert err == "--assume: gpus must be a whole number, got 'x'.\n"
