"""Linear cross-entropy against the loss from all logits: time and memory, on the CPU.

python benchmarks/linear_ce.py [--tokens 4096] [--vocabulary 152000] [--hidden 576]

Both compute loss and gradients of the same tensors, in turns, in one process for each number (memory is its peak).
Targets: at most 1.1 times the time; extra peak memory at most 5 % of the logits in float32.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 2
FULL, HEADLESS = "full training", "frozen head"


def measure(kind: str, dtype: str, loss: str, tokens: int, vocabulary: int, hidden: int) -> None:
    """Print CPU seconds, and bytes above what inputs and gradients need, as JSON."""
    import torch

    from newt.losses.chunked import chunked_cross_entropy
    from newt.losses.linear_ce import linear_cross_entropy

    torch.set_num_threads(1)
    torch.manual_seed(0)
    states = torch.randn(tokens, hidden).to(getattr(torch, dtype)).requires_grad_()
    # In place, as a second copy would raise the peak before anything is measured.
    weight = torch.empty(vocabulary, hidden, dtype=states.dtype).normal_(0, 0.05).requires_grad_(kind == FULL)
    targets = torch.randint(0, vocabulary, (tokens,))
    states.grad = torch.zeros_like(states)
    if kind == FULL:
        weight.grad = torch.zeros_like(weight)
    linear_cross_entropy(states[:8], weight[:64], targets[:8] % 64).backward()  # the libraries' own memory
    # What any computation needs: the inputs, their gradients, and the gradient that is added to the one that is there.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (weight.numel() * 4 if kind == FULL else 0)
    seconds = []
    for _ in range(REPEATS):
        begin = time.process_time()
        if loss == "linear":
            value = linear_cross_entropy(states, weight, targets)
        else:
            value = chunked_cross_entropy(states @ weight.t(), targets)
        value.backward()
        seconds.append(time.process_time() - begin)
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"seconds": min(seconds), "extra": max(0, extra), "loss": value.item()}))


def main() -> int:
    """Print the table; 1 when a target is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=152_000)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.tokens, options.vocabulary, options.hidden)
    if options.one:
        measure(*options.one, *sizes)
        return 0
    missed = False
    logits = options.tokens * options.vocabulary * 4
    print(f"{options.tokens} tokens, vocabulary {options.vocabulary}: logits of {logits / 2**20:.0f} MiB in float32")
    for dtype in ("float32", "bfloat16"):
        for kind in (FULL, HEADLESS):
            found = {loss: _run(kind, dtype, loss, sizes) for loss in ("plain", "linear")}
            ratio = found["linear"]["seconds"] / found["plain"]["seconds"]
            share = found["linear"]["extra"] / logits
            other = found["plain"]["extra"] / logits
            good = ratio <= 1.1 and share <= 0.05
            missed |= not good
            print(
                f"{dtype:9} {kind:13} time {ratio:.2f} times (target 1.10)   extra memory {share:.1%} of the logits "
                f"(target 5 %; from all logits: {other:.0%})   {'ok' if good else 'MISSED'}"
            )
    return int(missed)


def _run(kind: str, dtype: str, loss: str, sizes: tuple[int, int, int]) -> dict[str, float]:
    names = ("--tokens", "--vocabulary", "--hidden")
    flags = [text for name, size in zip(names, sizes, strict=True) for text in (name, str(size))]
    command = [sys.executable, str(Path(__file__)), *flags, "--one", kind, dtype, loss]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
