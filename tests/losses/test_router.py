"""The balancing loss of a mixture of experts: added once a step, however the step is split."""

import pytest
import torch
from tiny_models import tiny_model

from newt.losses.causal import causal_loss
from newt.losses.router import with_router_loss
from newt.support.errors import NewtError


def mixtral():
    model = tiny_model("mixtral", output_router_logits=True, router_aux_loss_coef=0.5)
    return model.train()


def batch(seed, rows):
    ids = torch.randint(3, 128, (rows, 12), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "labels": ids}


def test_it_is_what_transformers_adds_to_one_batch():
    model, data = mixtral(), batch(0, 2)
    expected = model(**data).loss
    found = with_router_loss(causal_loss)(model, data, 22)
    assert torch.allclose(found, expected, rtol=1e-5)
    assert found > causal_loss(model, data, 22) + 0.1


def test_micro_batches_share_one_balancing_loss():
    """Two equal micro-batches add up to one of them, not to twice its balancing loss."""
    model, data = mixtral(), batch(0, 2)
    once = with_router_loss(causal_loss)(model, data, 22)
    twice = sum(with_router_loss(causal_loss)(model, data, 44) for _ in range(2))
    assert torch.allclose(once, twice, rtol=1e-6)


def test_evaluation_leaves_it_out():
    model, data = mixtral().eval(), batch(0, 2)
    assert torch.equal(with_router_loss(causal_loss)(model, data, 22), causal_loss(model, data, 22))


def test_a_batch_that_trains_nothing_adds_nothing():
    model, data = mixtral(), batch(0, 2)
    data["labels"] = torch.full_like(data["labels"], -100)
    assert float(with_router_loss(causal_loss)(model, data, 22)) == 0


def test_a_loss_that_leaves_the_model_out_is_refused():
    with pytest.raises(NewtError, match="does not compute the router's"):
        with_router_loss(lambda model, data, items: torch.zeros(()))(mixtral(), batch(0, 2), 22)
