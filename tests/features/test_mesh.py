"""The device mesh."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"dp_replicate_size": 2, "tensor_parallel_size": 2},
            "dp_replicate_size: cannot be used alone with tensor_parallel_size. Set dp_shard_size above 1",
        ),
        (
            {"tensor_parallel_size": 2, "optimizer": "adamw_bnb_8bit"},
            "adamw_bnb_8bit cannot be used with tensor_parallel_size",
        ),
        ({"tensor_parallel_size": 2, "optimizer": "paged_adamw_8bit"}, "paged_adamw_8bit cannot be used"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"dp_shard_size": 1, "context_parallel_size": 1, "tensor_parallel_size": 1},
        {"dp_replicate_size": 2, "dp_shard_size": 2, "tensor_parallel_size": 2},
        {"tensor_parallel_size": 2, "optimizer": "adamw_torch_8bit"},
        {"tensor_parallel_size": 1, "optimizer": "adamw_bnb_8bit"},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"dp_shard_size": 1, "context_parallel_size": 1, "tensor_parallel_size": 1}, set()),
        ({"dp_shard_size": 2, "tensor_parallel_size": 2}, {"dp_shard_size", "tensor_parallel_size"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected


@pytest.mark.parametrize(
    ("keys", "world", "fits"),
    [
        ({"dp_shard_size": 2, "tensor_parallel_size": 2}, "4", True),
        ({"dp_shard_size": 2, "tensor_parallel_size": 2}, "8", False),
        ({"tensor_parallel_size": 2}, "8", True),
        ({"tensor_parallel_size": 3}, "8", False),
        ({"tensor_parallel_size": 3}, "1", True),
    ],
)
def test_the_sizes_must_fit_the_processes(keys, world, fits, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", world)
    assert any(f"does not fit {world} processes" in message for message in complaints(**keys)) is not fits
