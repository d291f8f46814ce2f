from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from newt.losses import chunked
from newt.losses.chunked import chunked_cross_entropy


def inputs(rows: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits = (4 * torch.randn(rows, vocabulary)).to(dtype).requires_grad_()
    targets = torch.randint(0, vocabulary, (rows,))
    targets[::3] = -100
    return logits, targets


@pytest.mark.parametrize("chunk", [1, 7 * 13, 1 << 26])
def test_equals_cross_entropy_of_torch(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", chunk)
    logits, targets = inputs(20, 13)
    expected = functional.cross_entropy(logits.double(), targets, reduction="sum")
    (expected / 7).backward()
    reference, logits.grad = logits.grad, None
    loss = chunked_cross_entropy(logits, targets)
    (loss / 7).backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad, reference, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(chunked_cross_entropy(logits, targets), loss)


def test_bfloat16_logits_give_a_float32_loss_and_bfloat16_gradients() -> None:
    logits, targets = inputs(20, 13, torch.bfloat16)
    expected = functional.cross_entropy(logits.float(), targets, reduction="sum")
    loss = chunked_cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    (reference,) = torch.autograd.grad(expected, logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, reference, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("rows", [0, 4])
def test_nothing_trained_is_zero(rows: int) -> None:
    logits = torch.randn(rows, 5, requires_grad=True)
    loss = chunked_cross_entropy(logits, torch.full((rows,), -100))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("chunks", [1, 3, 8, 100])
def test_any_number_of_chunks_gives_the_whole_loss(chunks: int) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(13, 11, requires_grad=True), torch.randint(0, 11, (13,))
    targets[::4] = -100
    chunked_cross_entropy(logits, targets, -100, chunks).backward()
    assert logits.grad is not None
    found, logits.grad = logits.grad, None
    expected = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    expected.backward()
    torch.testing.assert_close(chunked_cross_entropy(logits, targets, -100, chunks), expected)
    torch.testing.assert_close(found, logits.grad)
