"""Options of data parallel training."""

import pytest
from tests.helpers import complaints, make_run

OPTIONS = {
    "ddp_timeout": 7200,
    "ddp_bucket_cap_mb": 50,
    "ddp_broadcast_buffers": False,
    "ddp_find_unused_parameters": True,
}


def given(**keys):
    args = make_run(**keys).train_plan().args
    return {key: args[key] for key in args if key.startswith("ddp")}


def test_the_trainer_gets_the_options():
    assert complaints(ddp=True, **OPTIONS) == []
    assert given(**OPTIONS) == OPTIONS
    assert given(ddp=True) == {}


@pytest.mark.parametrize("other", [{"deepspeed": {"a": 1}}, {"fsdp_version": 2, "fsdp_config": {"version": 2}}])
def test_another_way_to_spread_the_run_leaves_only_the_timeout(other):
    assert given(**OPTIONS, **other) == {"ddp_timeout": 7200}
    assert any("ddp: cannot be used with" in text for text in complaints(ddp=True, **other))
    assert complaints(ddp=False, **other) == []


@pytest.mark.parametrize(("name", "seconds"), [("NEWT_NCCL_TIMEOUT", 60), ("AXOLOTL_NCCL_TIMEOUT", 60)])
def test_the_timeout_of_the_environment_holds_where_the_config_is_silent(monkeypatch, name, seconds):
    monkeypatch.setenv(name, str(seconds))
    assert make_run().train_plan().args["ddp_timeout"] == seconds
    assert make_run(ddp_timeout=5).train_plan().args["ddp_timeout"] == 5
    monkeypatch.setenv(name, "soon")
    assert "ddp_timeout" not in make_run().train_plan().args
