"""Expert parallelism."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"expert_parallel_size": 2}, "needs ExpertParallelPlugin"),
        (
            {"plugins": ["ExpertParallelPlugin"], "expert_parallel_size": 2, "tensor_parallel_size": 2},
            "expert_parallel_size: cannot be used with tensor_parallel_size",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"plugins": ["ExpertParallelPlugin"], "expert_parallel_size": 2},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["ExpertParallelPlugin"], "expert_parallel_size": 2}, {"plugins", "expert_parallel_size"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
