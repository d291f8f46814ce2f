"""What a micro-batch costs, and an order in which the ranks of data parallelism finish together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

TYPICAL_SHARE = 2e-5
"""``attention_share`` of models of 7 to 9 billion parameters (Llama 3.1 8B: 1.8e-5), for models that are not known."""

BALANCED = 1.005
"""Time of the slowest rank over the mean: below this, an order is good enough as it is."""

NOISE = 0.005
"""Costs that differ by less than this count as equal, so that not the same batches meet in every epoch."""


def attention_share(config: Mapping[str, Any] | None) -> float:
    """Cost of attention between two tokens of a document, in units of what all other work on one token costs.

    Per token, the matrix products of the forward pass take 2 P operations, P being the weights that a token is
    multiplied with. Causal attention takes 2 operations for each of the L² / 2 pairs, twice (scores and sums), for each
    layer and each of the heads x head_dim channels. A document of L tokens therefore costs L + L² x layers x channels
    / P, forward and backward alike.

    Args:
        config: config.json of a model, that of its text part, or one with ``text_config``; None: not known.
    """
    text = (config or {}).get("text_config") or config or {}
    try:
        layers, hidden, heads = (int(text[key]) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
        channels = heads * int(text.get("head_dim") or hidden // heads)
        groups = int(text.get("num_key_value_heads") or heads) / heads
        inner = int(text.get("moe_intermediate_size") or text.get("intermediate_size") or 4 * hidden)
        inner *= int(text.get("num_experts_per_tok") or 1)
        weights = layers * hidden * (2 * channels * (1 + groups) + 3 * inner) + hidden * int(text.get("vocab_size", 0))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return TYPICAL_SHARE
    return layers * channels / weights


@dataclass(frozen=True)
class Cost:
    """The time that micro-batches take, in tokens: the linear work and, for each row or document, its square.

    Attributes:
        share: see ``attention_share``.
        documents: attention works within documents and there is no padding (rows of several samples, varlen attention);
            otherwise every row of a micro-batch is as long as its longest, and attention works on all of it.
    """

    share: float = TYPICAL_SHARE
    documents: bool = False

    def of_batches(self, lengths: np.ndarray, offsets: np.ndarray, micro: int) -> np.ndarray:
        """Cost of each micro-batch, float64 (batches,); the last may have fewer samples.

        Args:
            lengths: tokens of every row, in the order of the samples, (rows,).
            offsets: rows of each sample: ``lengths[offsets[i]:offsets[i + 1]]``, (samples + 1,).
            micro: samples of a micro-batch.
        """
        lengths = lengths.astype(np.float64)
        starts = np.arange(0, len(offsets) - 1, micro)
        if self.documents:
            total: np.ndarray = np.add.reduceat(lengths + self.share * lengths**2, offsets[starts])
            return total
        tokens = np.add.reduceat(lengths, offsets[:-1])
        rows = np.diff(np.append(starts, len(tokens)))
        longest = np.maximum.reduceat(tokens, starts)
        padded: np.ndarray = rows * (longest + self.share * longest**2)
        return padded


def imbalance(turns: np.ndarray) -> float:
    """Time until the slowest rank is done over the mean time, summed over all turns.

    Args:
        turns: cost of the micro-batch of each rank, (turns, ranks).
    """
    return float(turns.max(1).sum() / turns.mean(1).sum())


def balanced_order(costs: np.ndarray, ranks: int, random: np.random.Generator) -> np.ndarray:
    """An order of micro-batches in which each turn (one for every rank) has batches of nearly the same cost.

    The turns come in a random order, but the costliest first: if memory runs out, it does so at once. Where a random
    choice of batches is balanced already, nothing is moved. Batches that do not fill a turn stay at the end.

    Args:
        costs: of each micro-batch, (batches,).
        ranks: in a turn.
        random: decides.

    Returns:
        int64 (batches,): ``costs[order].reshape(-1, ranks)`` are the turns.
    """
    whole = len(costs) - len(costs) % ranks
    order = np.arange(len(costs))
    if not whole or imbalance(costs[:whole].reshape(-1, ranks)) <= BALANCED:
        return order
    blurred = costs[:whole] * random.uniform(1, 1 + NOISE, whole)
    turns = random.permutation(np.argsort(blurred).reshape(-1, ranks))
    costliest = int(costs[turns].max(1).argmax())
    turns[[0, costliest]] = turns[[costliest, 0]]
    order[:whole] = random.permuted(turns, axis=1).ravel()
    return order
