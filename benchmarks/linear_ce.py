"""Linear cross-entropy against the loss from all logits: time and memory, on the CPU.

python benchmarks/linear_ce.py [--tokens 4096] [--vocabulary 152000] [--hidden 576]

Time is that of loss and gradients of the same tensors, in turns. Extra memory is counted from the allocations of one
computation: the most that lives at one time, without the gradients that it gives, the copy of the weight in the type of
the products and the float32 sum of a gradient in 16 bits. Targets: at most 1.1 times the time; extra memory at most 5 %
of the logits in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TURNS = 3

TIMED = [(types, head) for types in ("float32", "bfloat16") for head in ("full", "frozen")]
"""Number types, and whether the output weights are trained. ``mixed``: float32 weights, products in bfloat16."""

CASES = [(types, head, cap, mask) for types in ("float32", "bfloat16", "mixed") for head in ("full", "frozen")
         for cap in ("", "softcap") for mask in ("", "masks")]  # fmt: skip


def make(types: str, head: str, mask: str, sizes: tuple[int, int, int]) -> tuple[list[Any], Any]:
    """Hidden states and weight, and targets."""
    import torch

    tokens, vocabulary, hidden = sizes
    kind = torch.bfloat16 if types == "bfloat16" else torch.float32
    states = torch.randn(tokens, hidden).to(kind).requires_grad_()
    # In place, as a second copy would need the memory of a large vocabulary twice.
    weight = torch.empty(vocabulary, hidden, dtype=kind).normal_(0, 0.05).requires_grad_(head == "full")
    targets = torch.randint(0, vocabulary, (tokens,))
    if mask:
        targets[::3] = -100
    return [states, weight], targets


def gradients(loss: Callable[[], Any], tensors: list[Any]) -> list[Any]:
    """Compute a loss and its gradients."""
    import torch

    return list(torch.autograd.grad(loss(), [tensor for tensor in tensors if tensor.requires_grad]))


def extra_memory(case: list[str], sizes: tuple[int, int, int]) -> float:
    """Extra memory of a case as a share of the logits in float32."""
    import torch
    from torch.autograd.profiler import profile

    from newt.losses.linear_ce import LogitRule, linear_cross_entropy

    types, head, cap, mask = case
    tensors, targets = make(types, head, mask, sizes)
    weight = tensors[1]
    products = torch.float32 if types == "float32" else torch.bfloat16
    rule = LogitRule(softcap=30.0) if cap else LogitRule()
    with profile(profile_memory=True) as seen:
        found = gradients(lambda: linear_cross_entropy(*tensors, targets, rule=rule, dtype=products), tensors)
    live = most = 0
    for event in seen.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    needed = sum(gradient.numel() * gradient.itemsize for gradient in found)
    if weight.dtype != products:
        needed += weight.numel() * products.itemsize
    if head == "full" and weight.dtype != torch.float32:
        needed += weight.numel() * 4
    return max(0, most - needed) / (4 * sizes[0] * sizes[1])


def times(case: list[str], sizes: tuple[int, int, int]) -> float:
    """Time of a case over that of the loss from all logits: the median of several turns."""
    from newt.losses.chunked import chunked_cross_entropy
    from newt.losses.linear_ce import linear_cross_entropy

    tensors, targets = make(case[0], case[1], "", sizes)
    states, weight = tensors
    losses = (
        lambda: linear_cross_entropy(states, weight, targets),
        lambda: chunked_cross_entropy(states @ weight.t(), targets),
    )
    ratios = []
    for turn in range(TURNS):
        seconds = {}
        for number in (0, 1) if turn % 2 else (1, 0):
            begin = time.process_time()
            gradients(losses[number], tensors)
            seconds[number] = time.process_time() - begin
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def main() -> int:
    """Print the table; 1 when a target is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=152_000)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.tokens, options.vocabulary, options.hidden)
    if options.one:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        what, *case = options.one
        print(json.dumps((times if what == "times" else extra_memory)([part.strip(".") for part in case], sizes)))
        return 0
    logits = options.tokens * options.vocabulary * 4
    print(f"{options.tokens} tokens, vocabulary {options.vocabulary}: logits of {logits / 2**20:.0f} MiB in float32")
    good = True
    for case in TIMED:
        ratio = run("times", case, sizes)
        good &= ratio <= 1.1
        print(f"time   {' '.join(case):32} {ratio:.2f} times (target 1.10)", flush=True)
    for case in CASES:
        share = run("memory", case, sizes)
        good &= share <= 0.05
        print(f"memory {' '.join(filter(None, case)):32} {share:.1%} of the logits (target 5 %)", flush=True)
    print("ok" if good else "MISSED")
    return int(not good)


def run(what: str, case: tuple[str, ...], sizes: tuple[int, int, int]) -> float:
    """A number from a process of its own, that begins with no memory taken."""
    names = ("--tokens", "--vocabulary", "--hidden")
    flags = [text for name, size in zip(names, sizes, strict=True) for text in (name, str(size))]
    command = [sys.executable, str(Path(__file__)), *flags, "--one", what, *(part or "." for part in case)]
    found: float = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
