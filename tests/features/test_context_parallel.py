"""Context parallelism."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"context_parallel_size": 2}, "context_parallel_size: needs flash attention"),
        ({"context_parallel_size": 2, "attn_implementation": "sdpa"}, "needs flash attention"),
        (
            {
                "context_parallel_size": 2,
                "attn_implementation": "flash_attention_2",
                "sample_packing": True,
                "micro_batch_size": 2,
            },
            "micro_batch_size: must be 1 with sample_packing",
        ),
        (
            {
                "context_parallel_size": 2,
                "attn_implementation": "flash_attention_2",
                "sample_packing": True,
                "ring_attn_func": "batch_ring",
            },
            "batch_ring does not keep packed samples apart",
        ),
        ({"heads_k_stride": 1}, "has no effect: context_parallel_size is not above 1"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(model={"num_key_value_heads": 8}),
            {"context_parallel_size": 2, "attn_implementation": "flash_attention_2", "heads_k_stride": 3},
            "must divide the model's 8 key heads",
        ),
        (
            Facts(known=True, gpus=1, packages={"flash-attn": "2"}),
            {"context_parallel_size": 2, "attn_implementation": "flash_attention_2"},
            "needs the package ring-flash-attn",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (
            Facts(
                known=True,
                gpus=1,
                packages={"flash-attn": "2", "ring-flash-attn": "1"},
                model={"num_key_value_heads": 8},
            ),
            {"context_parallel_size": 2, "attn_implementation": "flash_attention_2", "heads_k_stride": 2},
        ),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {
            "context_parallel_size": 2,
            "attn_implementation": "flash_attention_2",
            "sample_packing": True,
            "heads_k_stride": 1,
            "ring_attn_func": "varlen_llama3",
        },
        {"context_parallel_size": 2, "attn_implementation": "flash_attention_2", "ring_attn_func": "batch_ring"},
        {"context_parallel_size": 1},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"context_parallel_size": 2, "attn_implementation": "flash_attention_2", "heads_k_stride": 1},
            {"context_parallel_size", "heads_k_stride"},
        ),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
