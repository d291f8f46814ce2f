"""ADOPT against its formula in numpy."""

import numpy as np
import pytest
import torch

from newt.training.adopt import Adopt


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_follows_the_formula(clip, decay):
    rng = np.random.default_rng(0)
    weights, gradients = rng.normal(size=(3, 4)), rng.normal(size=(7, 3, 4)) * [[[1.0], [1e-3], [5.0]]]
    gradients[2] *= 100  # far outside of what the second moment expects
    parameter = torch.nn.Parameter(torch.tensor(weights))
    optimizer = Adopt([parameter], lr=0.05, betas=(0.8, 0.99), eps=1e-4, weight_decay=decay, clip=clip)
    w, m, v = weights.copy(), np.zeros((3, 4)), None
    for step, g in enumerate(gradients):
        parameter.grad = torch.tensor(g)
        optimizer.step()
        if v is None:
            v = g**2
        else:
            scaled = g / np.maximum(np.sqrt(v), 1e-4)
            scaled = np.clip(scaled, -(step**0.25), step**0.25) if clip else scaled
            m = 0.8 * m + 0.2 * scaled
            w = w - 0.05 * decay * w - 0.05 * m
            v = 0.99 * v + 0.01 * g**2
        np.testing.assert_allclose(parameter.detach().numpy(), w, rtol=1e-12, atol=1e-12)


def test_a_parameter_without_gradient_stays():
    parameter = torch.nn.Parameter(torch.ones(3))
    Adopt([parameter], lr=0.1, weight_decay=1.0).step()
    assert torch.equal(parameter, torch.ones(3))
