"""Freezing whole parameters and rows of them."""

import pytest
import torch
from tests.models.tiny import IDS, load
from torch import nn

from newt.models.freezing import freeze_media, train_only
from newt.support.errors import NewtError


def net():
    model = nn.Module()
    model.embed = nn.Embedding(6, 2)
    model.visual = nn.Linear(2, 3)
    model.text = nn.Linear(2, 4)
    return model


def trained(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("pattern", ["^text.*", r"^text\..*", "text", r"te.t\.(weight|bias)$"])
def test_names_are_matched_from_their_start(pattern):
    model = net()
    train_only(model, [(pattern, None)])
    assert trained(model) == ["text.weight", "text.bias"]
    with pytest.raises(NewtError, match=r"'weight' matches no parameter\. The model has names such as embed\.weight"):
        train_only(model, [("weight", None)])


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        ([(0, 2)], [0, 1]),
        ([(4, None)], [4, 5]),
        ([(0, 2), (1, 3)], [0, 1, 2]),
        ([(0, 1), None], [0, 1, 2, 3, 4, 5]),
        ([None, (0, 1)], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_only_the_named_rows_get_a_gradient(chosen, rows):
    model = net()
    train_only(model, [("embed", limits) for limits in chosen])
    (model.embed.weight * 2).sum().backward()
    assert torch.equal(model.embed.weight.grad, torch.tensor([[2.0 * (row in rows)] * 2 for row in range(6)]))
    assert model.text.weight.grad is None


@pytest.mark.parametrize("limits", [(0, 7), (6, None)])
def test_rows_beyond_the_parameter(limits):
    with pytest.raises(NewtError, match=r"there is no row 6 in embed\.weight, which has 6 rows, from 0 on"):
        train_only(net(), [("embed", limits)])


def test_the_parts_that_see_are_frozen():
    model = net()
    assert freeze_media(model) == 2 * 3 + 3
    assert trained(model) == ["embed.weight", "text.weight", "text.bias"]
    model.visual = None
    with pytest.raises(NewtError, match="no modules that read images or sound"):
        freeze_media(model)


def test_a_config_trains_rows_of_a_real_model(model_dir):
    model = load(model_dir, unfrozen_parameters=["^model.embed_tokens.weight$[17:18]", "model.norm"]).model
    assert trained(model) == ["model.embed_tokens.weight", "model.norm.weight"]
    model(input_ids=IDS, labels=IDS).loss.backward()
    grad = model.get_input_embeddings().weight.grad
    assert grad.abs().sum(-1).nonzero().flatten().tolist() == [17]
