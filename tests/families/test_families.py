"""Families: which model types they name, and what they add to a batch."""

import pytest
import torch
from measure_isolation import packed_difference, samples
from prove_families import needed_inputs
from tests.helpers import make_run, messages
from tiny_models import tiny_model

from newt.extend import Facts
from newt.losses.causal import causal_loss
from newt.models.isolation import proofs
from newt.registry import FAMILIES
from newt.rows import Isolation

TYPES = [kind for family in FAMILIES for kind in family.model_types]


def facts(**model):
    return Facts(model=model)


def test_no_model_type_belongs_to_two_families():
    assert len(TYPES) == len(set(TYPES))


@pytest.mark.parametrize("kind", TYPES)
def test_each_model_type_is_known_and_was_tried(kind):
    assert set(proofs()[kind].proofs) == {"full", "lora", "dora", "qlora", "merge", "fused_loss"}
    assert proofs()[kind].proofs["full"] == "yes"
    assert proofs()[kind].layers


@pytest.mark.parametrize(
    ("model", "by"),
    [
        ({"model_type": "llama"}, "position_ids"),
        ({"model_type": "starcoder2"}, "position_ids"),  # without a family
        ({"model_type": "gpt_oss", "sliding_window": 128}, "mask"),
        ({"model_type": "falcon"}, "mask"),
    ],
)
def test_the_data_plan_says_how_samples_stay_apart(model, by):
    run = make_run(facts(**model), sample_packing=True)
    assert list(run.problems()) == []
    assert run.data_plan().isolation.get().by == by


@pytest.mark.parametrize(
    ("kind", "text"),
    [("qwen3_5_text", "GatedDeltaNet"), ("unheard_of", "not proved"), ("jamba", "JambaMambaDecoderLayer")],
)
def test_packing_is_refused_with_the_reason(kind, text):
    (found,) = messages(facts(model_type=kind), sample_packing=True)
    assert found.startswith("sample_packing: ")
    assert text in found
    assert found.endswith("Set sample_packing: false.")
    assert messages(facts(model_type=kind)) == []


def test_overrides_of_the_model_reach_the_mask():
    given = {"sample_packing": True, "overrides_of_model_config": {"sliding_window": 64}}
    run = make_run(facts(model_type="gpt_oss", sliding_window=128), **given)
    assert run.data_plan().isolation.get().windows["sliding_attention"] == 64


@pytest.mark.parametrize(
    ("kind", "name"), [("gemma3", "token_type_ids"), ("gemma4", "mm_token_type_ids"), ("llama", None)]
)
def test_gemma_is_told_that_text_is_not_an_image(kind, name):
    seen = {}

    def loss(model, batch, num_items):
        seen.update(batch)
        return torch.zeros(())

    plan = make_run(facts(model_type=kind)).train_plan()
    wrapped = loss
    for wrapper, _ in plan.loss._wraps:
        wrapped = wrapper(wrapped)
    ids = torch.ones(2, 3, dtype=torch.int64)
    wrapped(None, {"input_ids": ids}, 1)
    assert set(seen) == {"input_ids"} | ({name} if name else set())
    if name:
        assert torch.equal(seen[name], torch.zeros_like(ids))


@pytest.mark.parametrize("kind", ["gemma3", "gemma4"])
def test_packed_loss_equals_that_of_single_samples(kind):
    model = tiny_model(kind, "sdpa")
    assert packed_difference(model, Isolation()) < 1e-5
    model.train()
    each = samples()
    zeros = needed_inputs(kind)

    def loss(ids, positions):
        labels = torch.where(positions == 0, -100, ids)
        batch = {"input_ids": ids, "labels": labels, "position_ids": positions}
        return causal_loss(model, {**batch, **{key: torch.zeros_like(ids) for key in zeros}}, 50)

    single = sum(loss(ids, torch.arange(ids.shape[1])[None]) for ids in each)
    packed = loss(torch.cat(each, 1), torch.cat([torch.arange(ids.shape[1]) for ids in each])[None])
    assert torch.allclose(single, packed, rtol=1e-5)
