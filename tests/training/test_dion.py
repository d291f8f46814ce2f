"""Dion against its algorithm in numpy."""

import math

import numpy as np
import pytest
import torch

from newt.training.dion import Dion, rank


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_it_follows_the_algorithm(shape):
    rng = np.random.default_rng(0)
    weights, gradients = rng.normal(size=shape), rng.normal(size=(4, *shape)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float32))
    optimizer = Dion([parameter], lr=0.1, weight_decay=0.2, momentum=0.9, rank_fraction=0.5)
    w, momentum, q = weights.astype(np.float32), np.zeros(shape, np.float32), None
    for g in gradients:
        parameter.grad = torch.tensor(g)
        if q is None:
            optimizer.step()
            generator = torch.Generator().manual_seed(0)
            drawn = torch.randn(shape[1], 2, generator=generator).numpy()
            q = drawn / np.linalg.norm(drawn, axis=0)
        else:
            optimizer.step()
        total = momentum + g
        p, _ = np.linalg.qr(total @ q)
        r = total.T @ p
        momentum = total - 0.1 * p @ r.T
        q = r / np.linalg.norm(r, axis=0)
        w = w * (1 - 0.1 * 0.2) - 0.1 * math.sqrt(shape[0] / shape[1]) * p @ q.T
        np.testing.assert_allclose(parameter.detach().numpy(), w, atol=2e-5)


@pytest.mark.parametrize(
    ("fraction", "multiple", "expected"), [(1.0, 1, 30), (0.5, 1, 15), (0.5, 8, 16), (1.0, 16, 30), (0.01, 1, 1)]
)
def test_rank(fraction, multiple, expected):
    assert rank(50, 30, {"rank_fraction": fraction, "rank_multiple_of": multiple}) == expected


def test_a_full_rank_update_is_orthonormal():
    parameter = torch.nn.Parameter(torch.zeros(5, 5))
    parameter.grad = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    Dion([parameter], lr=1.0).step()
    # The columns of Q have length 1, and P is orthonormal: no direction moves further than the others by much.
    lengths = torch.linalg.vector_norm(parameter.detach(), dim=None)
    assert lengths.item() == pytest.approx(math.sqrt(5), rel=1e-5)
