"""Loss and gradients from hidden states are those of the logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd.profiler import profile
from torch.nn import functional

from newt.losses import linear_ce
from newt.losses.linear_ce import LogitRule, linear_cross_entropy

RULES = [LogitRule(), LogitRule(0.25), LogitRule(softcap=3.0), LogitRule(2.0, 5.0)]


def inputs(dtype: torch.dtype = torch.float32, trained: bool = True) -> list[torch.Tensor]:
    torch.manual_seed(1)
    tensors = [torch.randn(37, 16), torch.randn(50, 16), torch.randn(50)]
    found = [tensor.to(dtype).requires_grad_(trained or number == 0) for number, tensor in enumerate(tensors)]
    targets = torch.randint(0, 50, (37,))
    targets[::3] = -100
    return [*found, targets]


def plain(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor, rule: LogitRule
) -> torch.Tensor:
    logits = functional.linear(hidden, weight, bias).float() * rule.scale
    if rule.softcap:
        logits = rule.softcap * torch.tanh(logits / rule.softcap)
    return functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "memory" in request.node.name:
        return
    monkeypatch.setattr(linear_ce, "_rows", lambda *args: 7)
    monkeypatch.setattr(linear_ce, "VOCABULARY_BLOCK", 13)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_equals_the_plain_loss_in_float32(rule: LogitRule) -> None:
    (hidden, weight, bias, targets), (h, w, b, _) = inputs(), inputs()
    expected, found = (
        plain(h, w, b, targets, rule) / 7,
        linear_cross_entropy(hidden, weight, targets, bias, rule=rule) / 7,
    )
    expected.backward()
    found.backward()
    torch.testing.assert_close(found, expected)
    for mine, theirs in ((hidden, h), (weight, w), (bias, b)):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_bfloat16_is_as_near_to_the_truth_as_the_plain_loss(rule: LogitRule) -> None:
    (hidden, weight, bias, targets), (h, w, b, _) = inputs(torch.bfloat16), inputs(torch.bfloat16)
    exact = [tensor.detach().double().requires_grad_() for tensor in (h, w, b)]
    plain(h, w, b, targets, rule).backward()
    plain(*exact, targets, rule).backward()
    linear_cross_entropy(hidden, weight, targets, bias, rule=rule).backward()
    for mine, theirs, truth in zip((hidden, weight, bias), (h, w, b), exact, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert truth.grad is not None
        assert mine.grad.dtype == torch.bfloat16
        error, theirs_error = ((tensor.grad.double() - truth.grad).norm() for tensor in (mine, theirs))
        assert error <= 1.5 * theirs_error + 1e-3


def test_a_frozen_head_gets_no_gradient_and_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    (hidden, weight, bias, targets), (h, w, b, _) = inputs(trained=False), inputs(trained=False)
    seen = []
    made = linear_ce._Sums.add_gradients

    def watch(self: linear_ce._Sums, *args: object) -> None:
        seen.append((self.weight, self.bias))
        made(self, *args)

    monkeypatch.setattr(linear_ce._Sums, "add_gradients", watch)
    linear_cross_entropy(hidden, weight, targets, bias).backward()
    plain(h, w, b, targets, LogitRule()).backward()
    torch.testing.assert_close(hidden.grad, h.grad)
    assert weight.grad is None
    assert set(seen) == {(None, None)}


def test_rows_that_do_not_count_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, bias, targets = inputs()
    rows = []
    monkeypatch.setattr(
        linear_ce, "linear", lambda part, *rest: rows.append(len(part)) or functional.linear(part, *rest)
    )
    linear_cross_entropy(hidden, weight, targets, bias)
    assert sum(rows) == int((targets != -100).sum())
    assert max(rows) == 7


def test_nothing_to_train_gives_zero_and_zero_gradients() -> None:
    hidden, weight, bias, targets = inputs()
    loss = linear_cross_entropy(hidden, weight, torch.full_like(targets, -100), bias)
    loss.backward()
    assert loss.item() == 0
    assert weight.grad is not None
    assert not weight.grad.any()
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_without_gradients_none_are_made() -> None:
    hidden, weight, bias, targets = inputs()
    with torch.no_grad():
        found = linear_cross_entropy(hidden, weight, targets, bias)
    torch.testing.assert_close(found, plain(hidden, weight, bias, targets, LogitRule()))
    assert not found.requires_grad


def test_gradients_can_be_taken_once() -> None:
    hidden, weight, bias, targets = inputs()
    loss = linear_cross_entropy(hidden, weight, targets, bias)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.backward()


def extra_bytes(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, **options: Any) -> int:
    """The most that lives at one time in loss and backward pass, counted from the allocations, without what any way
    needs: the gradients, the weight in the type of the products, and the float32 sum of a gradient in 16 bits."""
    wanted = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    with profile(profile_memory=True) as seen:
        found = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets, **options), wanted)
    live = most = 0
    for event in seen.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    needed = sum(gradient.numel() * gradient.itemsize for gradient in found)
    dtype = options.get("dtype") or hidden.dtype
    if dtype != weight.dtype:
        needed += weight.numel() * dtype.itemsize
    if weight.requires_grad and weight.dtype != torch.float32:
        needed += weight.numel() * 4
    assert most > sum(gradient.numel() * gradient.itemsize for gradient in found), "allocations are seen"
    return most - needed


@pytest.mark.parametrize("rule", [LogitRule(), LogitRule(softcap=30.0), LogitRule(0.5)], ids=str)
@pytest.mark.parametrize("trained", [True, False], ids=["full", "frozen"])
@pytest.mark.parametrize("masked", [True, False], ids=["masks", "all"])
@pytest.mark.parametrize(
    ("kind", "products"),
    [(torch.float32, None), (torch.bfloat16, None), (torch.float32, torch.bfloat16)],
    ids=["float32", "bfloat16", "mixed"],
)
def test_extra_memory_is_at_most_a_twentieth_of_the_logits(
    rule: LogitRule, trained: bool, masked: bool, kind: torch.dtype, products: torch.dtype | None
) -> None:
    tokens, vocabulary = 4000, 3000
    hidden = torch.randn(tokens, 24).to(kind).requires_grad_()
    weight = torch.randn(vocabulary, 24).to(kind).requires_grad_(trained)
    targets = torch.randint(0, vocabulary, (tokens,))
    if masked:
        targets[::2] = -100
    extra = extra_bytes(hidden, weight, targets, rule=rule, dtype=products)
    assert extra <= 0.05 * tokens * vocabulary * 4


def test_few_tokens_take_the_memory_of_few_rows() -> None:
    hidden, weight = torch.randn(64, 16, requires_grad=True), torch.randn(5000, 16)
    extra = extra_bytes(hidden, weight, torch.randint(0, 5000, (64,)))
    assert extra <= 1.1 * linear_ce.LEAST_ROWS * 5000 * 4
