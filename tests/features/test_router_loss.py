"""The balancing loss of a mixture of experts is added where the model's config asks for it."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts


@pytest.mark.parametrize(
    ("model", "keys", "wanted"),
    [
        ({"output_router_logits": True}, {}, True),
        ({"output_router_logits": False}, {}, False),
        ({}, {}, False),
        ({}, {"overrides_of_model_config": {"output_router_logits": True}}, True),
        ({"output_router_logits": True}, {"overrides_of_model_config": {"output_router_logits": False}}, False),
        ({"text_config": {"output_router_logits": True}}, {}, True),
    ],
)
def test_the_config_decides(model, keys, wanted):
    plan = make_run(Facts(model={"model_type": "mixtral", **model}), **keys).train_plan()
    assert ("router loss" in [by for _, by in plan.loss._wraps]) == wanted


def test_not_for_packed_rows_with_an_explicit_mask():
    model = {"model_type": "gpt_oss", "output_router_logits": True, "sliding_window": 128}
    (found,) = messages(Facts(model=model), sample_packing=True)
    assert "the router's loss of gpt_oss models cannot be computed for packed rows" in found
    assert messages(Facts(model=model)) == []
