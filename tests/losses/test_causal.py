"""The loss and its gradients do not depend on how the rows are split into batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from newt.data.collate import PackedCollator, PaddedCollator
from newt.losses.causal import (
    POSITIONS,
    causal_loss,
    plain_causal_loss,
    takes_positions,
    trained_positions,
    trained_tokens,
)


def samples(count: int = 6) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    found = []
    for length in rng.integers(3, 20, count):
        ids = rng.integers(3, 600, length).astype(np.int32)
        labels = ids.copy()
        labels[: length // 2] = -100
        found.append({"input_ids": ids, "labels": labels})
    found[1]["labels"] = found[1]["input_ids"].copy()  # also the first token, which nothing predicts
    return found


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(model_dir)


def by_hand(model: Any, rows: list[dict[str, np.ndarray]]) -> tuple[torch.Tensor, int]:
    """Token by token, one row at a time, with the model's own logits."""
    total, count = torch.zeros(()), 0
    for row in rows:
        ids = torch.from_numpy(row["input_ids"].astype(np.int64))[None]
        log_probabilities = model(input_ids=ids).logits[0].log_softmax(-1)
        for place in range(1, ids.shape[1]):
            if row["labels"][place] != -100:
                total = total - log_probabilities[place - 1, ids[0, place]]
                count += 1
    return total, count


def gradients(model: Any, losses: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for loss in losses:
        loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def splits() -> dict[str, list[dict[str, torch.Tensor]]]:
    rows = samples()
    padded, packed = PaddedCollator(0), PackedCollator(0)
    return {
        "one batch": [padded(rows)],
        "one row at a time": [padded([row]) for row in rows],
        "uneven": [padded(rows[:1]), padded(rows[1:])],
        "packed into one": [packed([rows])],
        "packed into two": [packed([rows[:2], rows[2:]])],
        "packed with much padding": [PackedCollator(0, length=150)([rows])],
        "packed one by one": [packed([rows[:4]]), packed([rows[4:]])],
    }


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("split", list(splits()))
def test_any_split_gives_the_loss_and_gradients_of_a_hand_loop(model: Any, split: str, positions: bool) -> None:
    total, count = by_hand(model, samples())
    expected = gradients(model, [total / count])
    batches = splits()[split]
    assert sum(int(trained_tokens(batch)) for batch in batches) == count
    if positions:
        batches = [{**batch, POSITIONS: trained_positions(batch["labels"])} for batch in batches]
    losses = [causal_loss(model, batch, count) for batch in batches]
    assert sum(losses).item() == pytest.approx((total / count).item(), abs=1e-5)
    found = gradients(model, losses)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_only_trained_positions_reach_the_output_layer(model: Any) -> None:
    batch = PackedCollator(0, length=150)([samples()])
    rows = []
    hook = model.lm_head.register_forward_hook(lambda module, args, output: rows.append(output.shape[1]))
    plain_causal_loss(model, {**batch, POSITIONS: trained_positions(batch["labels"])}, 1)
    hook.remove()
    assert rows == [int(trained_tokens(batch))]


def test_positions_are_those_before_a_trained_token() -> None:
    labels = torch.tensor([[5, -100, -100, 7, -100], [-100, -100, 6, 7, 8]])
    assert trained_positions(labels).tolist() == [1, 2, 3]
    assert trained_positions(torch.full((2, 4), -100)).tolist() == [0]


def test_a_model_that_cannot_choose_positions_computes_all_logits(model: Any) -> None:
    class Plain(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool) -> Any:
            return model(input_ids=input_ids, position_ids=position_ids, use_cache=use_cache)

    batch = PackedCollator(0)([samples()])
    batch[POSITIONS] = trained_positions(batch["labels"])
    assert takes_positions(model)
    assert not takes_positions(Plain())
    torch.testing.assert_close(causal_loss(Plain(), batch, 9), causal_loss(model, batch, 9))


def test_neighbours_in_a_packed_row_do_not_see_a_changed_sample(model: Any) -> None:
    rows = samples()
    packed = PackedCollator(0, length=120)
    start = sum(len(row["input_ids"]) for row in rows[:2])
    end = start + len(rows[2]["input_ids"])

    def logits(bins: Any) -> torch.Tensor:
        batch = packed([bins])
        with torch.no_grad():
            return model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]

    before = logits(rows)
    changed = [dict(row) for row in rows]
    changed[2]["input_ids"] = (changed[2]["input_ids"] + 7) % 600
    after = logits(changed)
    assert not torch.equal(before[start:end], after[start:end])
    assert torch.equal(before[:start], after[:start])
    assert torch.equal(before[end:], after[end:])


def test_loss_of_a_peft_model_uses_positions_too(model_dir: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(model_dir)
    assert takes_positions(get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])))


def test_fully_masked_batch_has_zero_loss_and_gradient(model: Any) -> None:
    batch = PaddedCollator(0)(samples(2))
    batch["labels"] = torch.full_like(batch["labels"], -100)
    batch[POSITIONS] = trained_positions(batch["labels"])
    loss = causal_loss(model, batch, 1)
    found = gradients(model, [loss])
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in found.values())


def test_cross_entropy_reference(model: Any) -> None:
    """The same as the usual formula on the padded batch."""
    batch = PaddedCollator(0)(samples())
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].flatten(0, 1)
    expected = functional.cross_entropy(logits, batch["labels"][:, 1:].flatten())
    found = causal_loss(model, batch, int(trained_tokens(batch)))
    torch.testing.assert_close(found, expected)
