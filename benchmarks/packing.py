"""How fast packing is, and how close to the best: prints one line of JSON for each distribution of lengths.

python benchmarks/packing.py [ROWS]
"""

import json
import sys
import time

import numpy as np

from newt.data.pack import best_fit_decreasing, efficiency, lower_bound_l2, sequential

CAPACITY = 4096


def lengths_of(kind: str, rows: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "uniform":
        drawn = rng.integers(1, CAPACITY + 1, rows)
    elif kind == "short":
        drawn = rng.integers(1, 200, rows)
    else:
        drawn = rng.lognormal(np.log(580) - 0.5, 1.0, rows)  # mean 580
    return np.clip(drawn, 1, CAPACITY).astype(np.int32)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for kind in ("lognormal", "uniform", "short"):
        lengths = lengths_of(kind, rows)
        seconds = []
        for seed in range(5):
            start = time.perf_counter()
            _, offsets = best_fit_decreasing(lengths, CAPACITY, seed)
            seconds.append(time.perf_counter() - start)
        bound, bins = lower_bound_l2(lengths, CAPACITY), len(offsets) - 1
        _, in_order = sequential(lengths, CAPACITY)
        result = {
            "lengths": kind,
            "rows": rows,
            "capacity": CAPACITY,
            "seconds": round(min(seconds), 4),
            "bins": bins,
            "bins_over_lower_bound": round(bins / bound, 6),
            "efficiency": round(efficiency(lengths, offsets, CAPACITY), 5),
            "efficiency_in_order": round(efficiency(lengths, in_order, CAPACITY), 5),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
