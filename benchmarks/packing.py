"""Packing and sharing: prints one line of JSON for each distribution of lengths.

How full bins are (over the lower bound L2), how long a million rows take, and how long eight ranks wait for the slowest
one (slowest over mean), in a random order and in the order that training uses, packed and not.

python benchmarks/packing.py [ROWS]
"""

import json
import sys
import time

import numpy as np

from newt.data.cost import Cost, imbalance
from newt.data.pack import best_fit_decreasing, efficiency, lower_bound_l2, sequential
from newt.training.batches import BatchSampler, Place

RANKS = 8
BALANCE_ROWS = 100_000
MICRO = {"packed": 1, "padded": 4}


def lengths_of(kind: str, rows: int, capacity: int) -> np.ndarray:
    """Lengths of rows, int32 (rows,)."""
    rng = np.random.default_rng(0)
    drawn = {
        "lognormal": lambda: rng.lognormal(np.log(580) - 0.5, 1.0, rows),  # mean 580: chats
        "long tail": lambda: rng.lognormal(np.log(600), 2.0, rows),
        "pareto": lambda: 200 * (rng.pareto(1.1, rows) + 1),  # the hard case: many rows of 200 to 250, none shorter
        "reasoning": lambda: rng.lognormal(np.log(9000), 0.8, rows),
        "uniform": lambda: rng.integers(1, capacity + 1, rows),
        "short": lambda: rng.integers(1, 200, rows),
    }[kind]()
    return np.clip(drawn, 1, capacity).astype(np.int32)


def packing(lengths: np.ndarray, capacity: int) -> dict[str, float]:
    """How fast, and how close to the best."""
    seconds = []
    for seed in range(5):
        start = time.process_time()
        _, offsets = best_fit_decreasing(lengths, capacity, seed)
        seconds.append(time.process_time() - start)
    _, in_order = sequential(lengths, capacity)
    return {
        "seconds_per_million": round(min(seconds) / len(lengths) * 1e6, 4),
        "bins_over_lower_bound": round((len(offsets) - 1) / lower_bound_l2(lengths, capacity), 6),
        "efficiency": round(efficiency(lengths, offsets, capacity), 5),
        "efficiency_in_order": round(efficiency(lengths, in_order, capacity), 5),
    }


def step_costs(lengths: np.ndarray, capacity: int, how: str, *, balanced: bool) -> np.ndarray:
    """Cost of the micro-batch of each rank in each full turn of an epoch, (turns, ranks)."""
    packed = how == "packed"
    cost = Cost(documents=packed)
    packer = (lambda lengths, seed: best_fit_decreasing(lengths, capacity, seed)) if packed else None
    found = []
    for rank in range(RANKS):
        place = Place(rank, RANKS, cost if balanced else None)
        sampler = BatchSampler(lengths, MICRO[how], seed=0, packer=packer, place=place)
        batches = [[lengths[list(pick.rows)] for pick in batch] for batch in sampler]
        if packed:  # one row: attention within documents
            found.append(
                [sum(float((rows + cost.share * rows.astype(float) ** 2).sum()) for rows in b) for b in batches]
            )
        else:  # every row is as long as the longest
            longest = [float(max(rows.sum() for rows in batch)) for batch in batches]
            found.append([len(b) * (n + cost.share * n**2) for b, n in zip(batches, longest, strict=True)])
    return np.array(found).T[:-1]


def balance(lengths: np.ndarray, capacity: int) -> dict[str, float]:
    """Time of the slowest rank over the mean."""
    return {
        f"{how}_slowest_over_mean_{order}": round(
            imbalance(step_costs(lengths, capacity, how, balanced=order == "balanced")), 4
        )
        for how in MICRO
        for order in ("random", "balanced")
    }


def main() -> None:
    """Print the lines."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for kind, capacity in (
        ("lognormal", 4096),
        ("long tail", 4096),
        ("uniform", 4096),
        ("short", 4096),
        ("pareto", 4096),
        ("long tail", 32768),
        ("pareto", 32768),
        ("reasoning", 32768),
        ("uniform", 32768),
    ):
        lengths = lengths_of(kind, rows, capacity)
        result = {"lengths": kind, "rows": rows, "capacity": capacity, **packing(lengths, capacity)}
        if capacity == 32768:
            result |= balance(lengths[:BALANCE_ROWS], capacity)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
