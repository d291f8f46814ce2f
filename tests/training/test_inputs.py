"""Every shape of a batch gives the same loss and the same gradients, and no sample sees another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import make_run
from tests.training.tiny import Rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from newt.data.masks import sample_numbers
from newt.extend import CollisionError, DataPlan, Isolation
from newt.losses.causal import POSITIONS, causal_loss, trained_tokens
from newt.training.batches import TOKENS, Place
from newt.training.inputs import Inputs

LENGTH = 64
SHAPES: dict[str, dict[str, Any]] = {
    "rows": {},
    "flat": {"batch_flattening": True},
    "packed, real batches": {"sample_packing": True, "multipack_real_batches": True},
    "packed, one long row": {"sample_packing": True, "multipack_real_batches": False},
    "packed in order": {"sample_packing": True, "sample_packing_sequentially": True, "sample_packing_bin_size": 2},
    "fixed length": {"sample_packing": True, "pad_to_sequence_len": True},
    "no padding": {"sample_packing": True, "pad_to_sequence_len": False},
}


@pytest.fixture(scope="module")
def tokenizer(model_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(model_dir)


def plan_of(**keys: Any) -> DataPlan:
    return make_run(sequence_len=LENGTH, micro_batch_size=3, **keys).data_plan()


def batches(plan: DataPlan, data: Any, tokenizer: Any, place: Place | None = None) -> list[dict[str, Any]]:
    inputs = Inputs(plan, tokenizer, 0)
    sampler = inputs.train_sampler(data, drop_last=False, place=place or Place())
    return list(inputs.train_loader(data, sampler))


def total(model: Any, found: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
    """Loss over all micro-batches as if they were one optimizer step, and its gradient."""
    model.zero_grad()
    items = sum(int(trained_tokens(batch)) for batch in found)
    loss = 0.0
    for batch in found:
        part = causal_loss(model, {key: value for key, value in batch.items() if key != TOKENS}, items)
        part.backward()
        loss += part.item()
    return loss, torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])


def load(model_dir: Path, attention: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation=attention).train()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_shape_gives_the_same_loss_and_gradients(attention: str, model_dir: Path, tokenizer: Any) -> None:
    model, data = load(model_dir, attention), Rows(17)
    alone = {"micro_batch_size": 1}
    loss, gradient = total(model, batches(make_run(sequence_len=LENGTH, **alone).data_plan(), data, tokenizer))
    assert gradient.norm() > 0.1
    for name, keys in SHAPES.items():
        other, gradient_other = total(model, batches(plan_of(**keys), data, tokenizer))
        assert other == pytest.approx(loss, rel=1e-6), name
        assert float((gradient_other - gradient).norm() / gradient.norm()) < 1e-5, name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="flex attention is compiled")
def test_flex_attention_gives_the_same_loss(model_dir: Path, tokenizer: Any) -> None:
    """Forward only: flex attention has no backward pass on a CPU."""
    data = Rows(5)
    (batch,) = batches(plan_of(**SHAPES["packed, one long row"], pad_to_multiple_of=128), data, tokenizer)
    dense, flex = (per_token(load(model_dir, name).eval(), batch) for name in ("sdpa", "flex_attention"))
    assert float((dense - flex).abs().max()) < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_stands_where_the_tokenizer_says(side: str, model_dir: Path) -> None:
    model, data = load(model_dir, "sdpa"), Rows(9)
    loss, gradient = total(model, batches(plan_of(), data, AutoTokenizer.from_pretrained(model_dir)))
    tokenizer = AutoTokenizer.from_pretrained(model_dir, padding_side=side)
    for keys in ({}, {"sample_packing": True}, {"batch_flattening": True}):
        found = batches(plan_of(**keys), data, tokenizer)
        place = 0 if side == "left" else -1
        pads = torch.cat([batch["input_ids"][:, place] for batch in found]) == tokenizer.pad_token_id
        assert pads.any()
        other, gradient_other = total(model, found)
        assert other == pytest.approx(loss, rel=1e-6)
        assert float((gradient_other - gradient).norm() / gradient.norm()) < 1e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["flat", "packed, real batches", "packed, one long row"])
def test_a_changed_sample_changes_no_other(name: str, attention: str, model_dir: Path, tokenizer: Any) -> None:
    model = load(model_dir, attention).eval()
    batch = batches(plan_of(**SHAPES[name]), Rows(20, longest=20), tokenizer)[0]
    changed = (sample_numbers(batch["position_ids"]) == 1) & (torch.arange(len(batch["input_ids"])) == 0)[:, None]
    other = {**batch, "input_ids": torch.where(changed, (batch["input_ids"] + 7) % 600, batch["input_ids"])}
    assert 0 < int(changed.sum()) < changed.numel() / 2
    difference = (per_token(model, batch) - per_token(model, other)).abs()
    assert float(difference[~changed].max()) < 1e-6
    assert float(difference[changed].max()) > 1e-3


def per_token(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Loss of the next token at every place, (rows, length); 0 where it is not trained."""
    inputs = {key: value for key, value in batch.items() if key not in (TOKENS, POSITIONS, "labels")}
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits
    found = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="none")
    return torch.nn.functional.pad(found, (1, 0))


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=40),
    name=st.sampled_from(sorted(SHAPES)),
    micro=st.integers(1, 4),
    world=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_no_token_is_lost_and_no_row_is_too_long(
    lengths: list[int], name: str, micro: int, world: int, tokenizer: Any
) -> None:
    data = Rows(len(lengths))
    data.lengths = np.array(lengths, np.int32)
    data.ids = [np.full(length, 10 + row, np.int32) for row, length in enumerate(lengths)]
    keys = {**SHAPES[name], "micro_batch_size": micro}
    plan = make_run(sequence_len=LENGTH, **keys).data_plan()
    seen: list[int] = []
    for rank in range(world):
        for batch in batches(plan, data, tokenizer, Place(rank, world)):
            long = name in ("flat", "packed, one long row")
            assert batch["input_ids"].shape[1] <= LENGTH * (micro if long else 1)
            assert batch["input_ids"].shape[0] <= (1 if long else micro)
            if keys.get("pad_to_sequence_len"):
                assert batch["input_ids"].shape[1] == LENGTH
            seen += batch["input_ids"][batch["labels"] != -100].tolist()
    # The first third of each row is not trained, and never the first token.
    trained = [length - max(1, length // 3) for length in lengths]
    assert sorted(seen) == [10 + row for row, count in enumerate(trained) for _ in range(count)]


def test_lengths_are_rounded_as_the_keys_say(tokenizer: Any) -> None:
    data = Rows(1)
    data.lengths, data.ids = np.array([37], np.int32), [np.arange(37, dtype=np.int32)]

    def width(**keys: Any) -> int:
        plan = make_run(**{"sequence_len": 100, "micro_batch_size": 1, **keys}).data_plan()
        return int(batches(plan, data, tokenizer)[0]["input_ids"].shape[1])

    assert width() == 64
    assert width(pad_to_multiple_of=8) == 40
    assert width(pad_to_sequence_len=True) == 128
    assert width(pad_to_sequence_len=True, pad_to_multiple_of=25) == 100
    assert width(pad_to_sequence_len=False) == 37
    assert width(pad_to_sequence_len=False, pad_to_multiple_of=5) == 40
    long_row = {"sample_packing": True, "multipack_real_batches": False, "micro_batch_size": 2}
    assert width(pad_to_sequence_len=True, **long_row) == 256


def test_positions_of_a_transform_reach_the_model(tokenizer: Any) -> None:
    plan = plan_of(use_pose=True, pose_max_context_len=500)
    data = Rows(9)
    (first, second) = (batches(plan, data, tokenizer) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one["position_ids"], two["position_ids"])
        assert one["position_ids"].max() < 500
        assert one["attention_mask"].shape == one["position_ids"].shape
    assert max(int(batch["position_ids"].max()) for batch in first) > LENGTH
    evaluated = Inputs(plan, tokenizer, 0).eval_loader(data)
    assert all("position_ids" not in batch for batch in evaluated)


def test_jumping_positions_do_not_cut_a_row_apart(model_dir: Path, tokenizer: Any) -> None:
    """Without a mask transformers would take every jump for the next sample."""
    model, data = load(model_dir, "sdpa").eval(), Rows(1)
    (batch,) = batches(plan_of(use_pose=True, pose_max_context_len=500), data, tokenizer)
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, 0] += 1
    last = int(data.lengths[0]) - 1
    assert batch["position_ids"][0, last] > last
    assert (per_token(model, batch) - per_token(model, changed))[0, last].abs() > 1e-6


def test_an_evaluation_set_smaller_than_a_bin_is_one_batch(tokenizer: Any) -> None:
    plan = make_run(sequence_len=2048, micro_batch_size=4, sample_packing=True).data_plan()
    (batch,) = Inputs(plan, tokenizer, 0).eval_loader(Rows(3))
    assert batch[TOKENS] == Rows(3).lengths.sum()


def test_the_isolation_of_a_family_reaches_the_batch(tokenizer: Any) -> None:
    for isolation, key in ((Isolation("mask"), "attention_mask"), (Isolation("seq_idx"), "seq_idx")):
        plan = plan_of(sample_packing=True)
        plan.isolation.fill(isolation, by="test")
        assert key in batches(plan, Rows(9), tokenizer)[0]


def test_flat_batches_and_a_collator_of_ones_own_collide(tokenizer: Any) -> None:
    plan = plan_of(batch_flattening=True)
    plan.collate.fill(lambda tokenizer: None, by="images")
    with pytest.raises(CollisionError, match="flattening cannot be used with images's collator"):
        batches(plan, Rows(3), tokenizer)
