"""How a run is spread over devices, and older spellings in its block."""

from __future__ import annotations

import pytest
from tests.helpers import MINIMAL, make_config

from newt.config.load import Loaded, load
from newt.config.parallel import Fsdp, Mesh
from newt.registry import sections
from newt.run import EntryType


def read(**block: object) -> Loaded:
    return load({**MINIMAL, "fsdp_config": block}, (), sections=sections(), entry_type=EntryType())


@pytest.mark.parametrize(
    ("keys", "version"),
    [
        ({}, None),
        ({"fsdp_version": 2}, None),
        ({"fsdp_config": {}}, None),
        ({"fsdp": ["full_shard"]}, 1),
        ({"fsdp_config": {"offload_params": False}}, 1),
        ({"fsdp_config": {"offload_params": False}, "fsdp_version": 2}, 2),
        ({"fsdp_config": {"version": "2"}}, 2),
    ],
)
def test_version(keys: dict[str, object], version: int | None) -> None:
    assert make_config(**keys)[Fsdp].version == version


def test_older_spellings_in_the_block() -> None:
    loaded = read(fsdp_offload_params=True, fsdp_version=2, fsdp_sharding_strategy=None)
    assert [(str(p), p.kind) for p in loaded.problems] == [
        ("fsdp_config.fsdp_offload_params: is now called offload_params.", "warning")
    ]
    assert loaded.config is not None
    options = loaded.config[Fsdp].options
    assert (options.offload_params, options.version) == (True, 2)
    assert {"fsdp_config.offload_params", "fsdp_config.version"} <= loaded.config.given


def test_two_spellings_must_agree() -> None:
    same = [p for p in read(fsdp_offload_params=True, offload_params=True).problems if p.kind == "invalid"]
    other = [p for p in read(fsdp_offload_params=True, offload_params=False).problems if p.kind == "invalid"]
    assert same == []
    assert ["another name of offload_params" in str(p) for p in other] == [True]


def test_unknown_option_and_value() -> None:
    assert "Did you mean offload_params?" in str(read(offload_parms=True).problems[0])
    assert "must be FULL_STATE_DICT" in str(read(state_dict_type="WRONG").problems[0])


@pytest.mark.parametrize(
    ("keys", "world", "groups"),
    [({}, 8, 8), ({"context_parallel_size": 4}, 8, 2), ({"sequence_parallel_degree": None}, 2, 2),
     ({"context_parallel_size": 2, "tensor_parallel_size": 2}, 8, 2)],
)  # fmt: skip
def test_data_groups(keys: dict[str, object], world: int, groups: int) -> None:
    assert make_config(**keys)[Mesh].data_groups(world) == groups
