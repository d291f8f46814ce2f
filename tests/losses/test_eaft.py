"""Entropy-adaptive weights."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from newt.losses.eaft import eaft_loss, entropy_weights


class Fixed(torch.nn.Module):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(logits)

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.weight)


def test_weights_by_hand() -> None:
    even, certain, two = torch.zeros(5), torch.tensor([60.0, 0, 0, 0, 0]), torch.tensor([9.0, 9.0, -60, -60, -60])
    weights = entropy_weights(torch.stack([even, certain, two]), k=4, alpha=2.0)
    expected = torch.tensor([1.0, 0.0, (math.log(2) / math.log(4)) ** 2])
    torch.testing.assert_close(weights, expected, atol=1e-5, rtol=1e-5)


def test_the_weights_have_no_gradient_and_do_not_change_the_count() -> None:
    torch.manual_seed(0)
    model = Fixed(torch.randn(1, 4, 7))
    labels = torch.tensor([[1, -100, 3, 2]])
    eaft_loss(model, {"input_ids": labels, "labels": labels}, 5, k=3, alpha=1.0).backward()
    rows, targets = model.weight.detach()[0, [1, 2]], torch.tensor([3, 2])
    slope = rows.softmax(-1) - torch.nn.functional.one_hot(targets, 7)
    expected = torch.zeros(1, 4, 7)
    expected[0, [1, 2]] = slope * entropy_weights(rows, 3, 1.0)[:, None] / 5
    torch.testing.assert_close(model.weight.grad, expected)


@pytest.mark.parametrize("training", [True, False])
def test_the_exponent_zero_and_evaluation_are_the_plain_loss(training: bool) -> None:
    torch.manual_seed(0)
    model = Fixed(torch.randn(2, 4, 7)).train(training)
    labels = torch.randint(0, 7, (2, 4))
    found = eaft_loss(model, {"input_ids": labels, "labels": labels}, 6, k=3, alpha=0.0 if training else 3.0)
    expected = torch.nn.functional.cross_entropy(model.weight[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(found, expected)
