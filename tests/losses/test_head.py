"""The loss without logits, on models that treat their logits in different ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from newt.losses import head
from newt.losses.causal import causal_loss, plain_causal_loss
from newt.losses.head import base_of, head_of
from newt.losses.linear_ce import LogitRule

TINY = {
    "vocab_size": 96, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

KINDS: dict[str, tuple[dict[str, Any], LogitRule]] = {
    "llama": ({}, LogitRule()),
    "llama tied": ({"tie_word_embeddings": True}, LogitRule()),
    "gemma2": ({"final_logit_softcapping": 2.0}, LogitRule(1.0, 2.0)),
    "granite": ({"logits_scaling": 4.0}, LogitRule(0.25)),
    "cohere": ({"logit_scale": 0.125}, LogitRule(0.125)),
    "gpt_neox": ({}, LogitRule()),
}


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind.split()[0], **{**TINY, **KINDS[kind][0]}))
    with torch.no_grad():  # logits that differ, so that a wrong rule shows
        model.get_output_embeddings().weight.mul_(20)
    return model


def batch_of(rows: int = 3) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 96, (rows, 12), generator=torch.Generator().manual_seed(5))
    labels = ids.clone()
    labels[:, :4] = -100
    labels[1, 6:9] = -100
    return {"input_ids": ids, "labels": labels}


def gradients(model: Any, loss: Any, *batches: dict[str, torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        part = loss(model, batch, 20)
        part.backward()
        total += part.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(model: Any, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    expected, wanted = gradients(model, plain_causal_loss, batch_of())
    found, got = gradients(model, causal_loss, batch_of())
    assert found == pytest.approx(expected, rel=rtol)
    assert got.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], atol=atol, rtol=rtol, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_plain_loss(kind: str) -> None:
    model = model_of(kind)
    same(model)
    found = head_of(model, lambda: None)
    assert found is not None
    assert found.rule == KINDS[kind][1]


def test_equals_it_in_any_split_into_micro_batches() -> None:
    model, batch = model_of("llama"), batch_of()
    whole, wanted = gradients(model, causal_loss, batch)
    parts = [{key: value[row : row + 1] for key, value in batch.items()} for row in range(3)]
    split, got = gradients(model, causal_loss, *parts)
    assert split == pytest.approx(whole, abs=1e-5)
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("saved", [None, ["lm_head"]], ids=["frozen head", "trained head"])
def test_equals_it_with_an_adapter(saved: list[str] | None) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=saved, init_lora_weights=False)
    model = get_peft_model(model_of("llama"), config)
    same(model)
    assert head_of(model, lambda: None) is not None


def test_a_head_with_an_adapter_of_its_own_gets_the_plain_loss(capsys: pytest.CaptureFixture[str]) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    model = get_peft_model(model_of("llama"), config)
    same(model)
    assert head_of(model, lambda: None) is None
    assert capsys.readouterr().err.count("The loss is computed from all logits: the output layer is Linear") == 1


def test_a_model_that_does_something_else_gets_the_plain_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("granite")
    monkeypatch.setattr(head, "SCALES", {})
    same(model)
    assert head_of(model, lambda: None) is None


def test_equals_it_in_mixed_precision() -> None:
    def mixed(loss: Any) -> Any:
        def call(model: Any, batch: Any, items: int) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return loss(model, batch, items)

        return call

    model = model_of("llama")
    expected, wanted = gradients(model, mixed(plain_causal_loss), batch_of())
    found, got = gradients(model, mixed(causal_loss), batch_of())
    assert found == pytest.approx(expected, rel=1e-2)
    for name in wanted:
        assert (got[name] - wanted[name]).norm() <= 0.03 * wanted[name].norm(), name


def test_the_output_layer_computes_nothing_and_is_left_as_it_was() -> None:
    model = model_of("llama")
    causal_loss(model, batch_of(), 1)
    rows = []
    hook = model.lm_head.register_forward_hook(lambda module, args, output: rows.append(output.shape[1]))
    causal_loss(model, batch_of(), 1)
    assert rows == [0]
    assert model(**batch_of()).logits.shape == (3, 12, 96)
    hook.remove()
    assert not model.lm_head._forward_pre_hooks


def test_finding_the_rule_draws_no_random_number() -> None:
    model = model_of("llama")
    before = torch.random.get_rng_state()
    causal_loss(model, batch_of(), 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_model_is_found_within_its_wrappers() -> None:
    model = model_of("llama")
    assert base_of(torch.nn.DataParallel(model)) is model
