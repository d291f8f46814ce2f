"""Cost of micro-batches, and orders in which all ranks finish together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newt.data.cost import BALANCED, TYPICAL_SHARE, Cost, attention_share, balanced_order, imbalance

LLAMA_8B = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256,
}  # fmt: skip


def test_the_share_of_attention_follows_from_the_config() -> None:
    # 32 layers of 4096 channels; 32 x 218,103,808 weights in the layers and 525,336,576 in the output layer.
    assert attention_share(LLAMA_8B) == pytest.approx(32 * 4096 / (32 * 218_103_808 + 525_336_576))
    assert attention_share({"text_config": LLAMA_8B}) == attention_share(LLAMA_8B)
    assert attention_share(LLAMA_8B) == pytest.approx(TYPICAL_SHARE, rel=0.2)
    experts = {**LLAMA_8B, "moe_intermediate_size": 7168, "num_experts_per_tok": 2}
    assert attention_share(experts) == attention_share(LLAMA_8B)


@pytest.mark.parametrize("config", [None, {}, {"d_model": 5}, {**LLAMA_8B, "num_attention_heads": None}])
def test_an_unknown_model_has_a_typical_share(config: dict[str, int] | None) -> None:
    assert attention_share(config) == TYPICAL_SHARE


def test_costs_by_hand() -> None:
    lengths, offsets = np.array([3, 1, 2, 5]), np.array([0, 2, 3, 4])  # samples of 3 + 1, 2 and 5 tokens
    assert Cost(0.5, documents=True).of_batches(lengths, offsets, 2).tolist() == [3 + 1 + 2 + 0.5 * 14, 5 + 0.5 * 25]
    assert Cost(0.5).of_batches(lengths, offsets, 2).tolist() == [2 * (4 + 0.5 * 16), 5 + 0.5 * 25]


@given(st.lists(st.floats(1, 1e6), max_size=60), st.integers(1, 8), st.integers(0, 5))
def test_every_batch_stands_once_and_the_rest_at_the_end(listed: list[float], ranks: int, seed: int) -> None:
    costs = np.array(listed, np.float64)
    order = balanced_order(costs, ranks, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(costs)))
    whole = len(costs) - len(costs) % ranks
    assert order[whole:].tolist() == list(range(whole, len(costs)))


def test_a_long_tail_is_balanced_and_the_turns_are_shuffled() -> None:
    costs = np.minimum(np.random.default_rng(0).pareto(1.2, 8000) + 1, 100)
    random = imbalance(costs.reshape(-1, 8))
    order = balanced_order(costs, 8, np.random.default_rng(1))
    turns = costs[order].reshape(-1, 8)
    assert random > 2
    assert imbalance(turns) < 1.015
    assert turns[0].max() == costs.max()
    means = turns.mean(1)
    assert abs(np.corrcoef(means[1:-1], means[2:])[0, 1]) < 0.2
    assert not np.array_equal(order, balanced_order(costs, 8, np.random.default_rng(2)))
    assert np.array_equal(order, balanced_order(costs, 8, np.random.default_rng(1)))


def test_what_is_balanced_is_left_alone() -> None:
    costs = np.random.default_rng(0).uniform(1, 1 + BALANCED - 1, 80)
    assert balanced_order(costs, 8, np.random.default_rng(0)).tolist() == list(range(80))
