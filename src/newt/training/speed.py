"""How fast a run is: tokens a second, and how much of what the device can do they use."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from newt.models.kbit import size_of

SIDE = {"cuda": 8192, "cpu": 512}
"""Side of the square matrices whose product is timed."""
SMALLEST = 512
"""Smallest side that is tried when the memory is full. Then nothing was measured, and mfu is 0."""


class Stopwatch:
    """Tokens per second of training alone: evaluation and saving do not count."""

    def __init__(self) -> None:
        self.peak: float | None = None
        self.cost: float | None = None
        self.running = False
        self.begin(0, 0)

    def start(self, tokens: int, trained: int) -> None:
        """Begin the first interval, with the first step: what was prepared before is not training. Later: nothing."""
        if not self.running:
            self.running = True
            self.begin(tokens, trained)

    def begin(self, tokens: int, trained: int = 0) -> None:
        """Begin an interval.

        Args:
            tokens: seen so far.
            trained: those of them that were trained.
        """
        self.tokens, self.trained, self.started, self.paused = tokens, trained, time.perf_counter(), 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do not count this block."""
        begin = time.perf_counter()
        yield
        self.paused += time.perf_counter() - begin

    def log(self, tokens: int, trained: int, model: Any, args: Any) -> dict[str, float]:
        """Rates since the interval began; begins the next one.

        Args:
            tokens: seen so far, over all ranks.
            trained: those of them that were trained.
            model: what is trained.
            args: the trainer's arguments: device, number format and number of ranks.

        Returns:
            tokens_per_second, trained_tokens_per_second, and mfu: floating-point operations that the tokens need over
            those that a matrix product of the same device and number format makes in the same time.
        """
        seconds = max(time.perf_counter() - self.started - self.paused, 1e-9)
        rate, useful = (tokens - self.tokens) / seconds, (trained - self.trained) / seconds
        if self.peak is None or self.cost is None:
            self.peak, self.cost = matmul_speed(args.device, compute_format(model, args)), flops_per_token(model)
        used = rate * self.cost / (self.peak * max(1, args.world_size))
        self.begin(tokens, trained)
        return {
            "tokens_per_second": round(rate, 1),
            "trained_tokens_per_second": round(useful, 1),
            "mfu": float(f"{used:.4g}"),
        }


def compute_format(model: Any, args: Any) -> torch.dtype:
    """The number format that matrix products are made in."""
    if args.bf16 or args.fp16:
        return torch.bfloat16 if args.bf16 else torch.float16
    formats = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next((kind for kind in formats if kind.itemsize > 1), torch.float32)


def matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large square matrix product, the best of a few. Draws no number.

    Where the memory is too full for such matrices they are smaller, and the number is lower than it could be.
    """
    side = SIDE.get(device.type, 2048)
    while True:
        try:
            return _product_speed(side, device, dtype)
        except torch.OutOfMemoryError:
            if side <= SMALLEST:
                return math.inf
            side //= 2


def _product_speed(side: int, device: torch.device, dtype: torch.dtype) -> float:
    one = torch.full((side, side), 0.5, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        _wait(device)
        begin = time.perf_counter()
        one @ one
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / max(best, 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops_per_token(model: Any) -> float:
    """Floating-point operations of training on a token, without those of attention between tokens.

    2 for each weight forward, 2 backward for the gradient of its input, and 2 for its own if it is trained
    (https://arxiv.org/abs/2001.08361, section 2.1). An embedding is looked up, not multiplied. Of experts, those that a
    token goes through count.
    """
    share = _share_of_experts(model)
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    looked_up = set() if embedding is None else {id(weight) for weight in embedding.parameters()}
    looked_up -= set() if head is None else {id(weight) for weight in head.parameters()}
    total = 0.0
    for name, parameter in model.named_parameters():
        if id(parameter) not in looked_up:
            part = share if "experts" in name and "shared" not in name else 1.0
            total += part * size_of(parameter) * (6 if parameter.requires_grad else 4)
    return total


def _share_of_experts(model: Any) -> float:
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    count = next((value for name in names if (value := getattr(config, name, None))), None)
    used = getattr(config, "num_experts_per_tok", None)
    return used / count if used and count else 1.0
