"""Adapters that begin from training data."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.helpers import make_config, make_run
from tests.models.tiny import LORA, logits, stir
from transformers import AutoModelForCausalLM

from newt.extend import FirstBatches
from newt.losses.causal import IGNORED, plain_causal_loss, trained_tokens
from newt.models.adapter_data import _joined
from newt.models.adapters import count_parameters
from newt.models.load import load_model
from newt.models.merge import merge_lora
from newt.models.portable import lora_layers
from newt.models.save import save_final, write_beside
from newt.models.tokenizer import load_tokenizer
from newt.support.errors import NewtError

KEY = "peft_init_lora_weights"
KINDS = ["eva", "corda", "lora_ga"]


def batches(count=24):
    """Rows of two lengths, the shorter ones padded."""
    random = torch.Generator().manual_seed(3)
    found = []
    for _ in range(count // 4):
        ids = torch.randint(5, 60, (4, 24), generator=random)
        mask = torch.ones_like(ids)
        mask[::2, 18:] = 0
        labels = ids.masked_fill(mask == 0, IGNORED)
        labels[:, :6] = IGNORED
        found.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return found


def first(data=None, checkpoint=None):
    def loss(model, batch):
        return plain_causal_loss(model, batch, trained_tokens(batch))

    return FirstBatches(lambda count: batches() if data is None else data, loss, checkpoint)


def refuse(count):
    raise AssertionError("a resumed run looks at no data")


def load(folder, init, data=None, **keys):
    run = make_run(base_model=str(folder), **{**LORA, KEY: init, **keys})
    return load_model(run.load_plan(), load_tokenizer(run.cfg), data or first())


def ranks(model):
    return {name: layer.r["default"] for name, layer in lora_layers(model)}


def mean_loss(model):
    model.eval()
    with torch.no_grad():
        return sum(float(plain_causal_loss(model, batch, trained_tokens(batch))) for batch in batches()) / 6


@pytest.mark.parametrize("init", KINDS)
def test_the_model_computes_at_first_what_the_base_does(model_dir, init):
    base = logits(AutoModelForCausalLM.from_pretrained(model_dir))
    model = load(model_dir, init).model
    assert torch.allclose(logits(model), base, atol=2e-6)
    with model.disable_adapter():
        taken_out = not torch.allclose(logits(model), base, atol=1e-4)
    assert taken_out == (init != "eva"), "a part of the base is in the adapter"
    trained, _ = count_parameters(model)
    assert trained == sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    left = {"eigens", "covariance_matrix", "_peft_loraga_grad"}
    assert not any(left & set(vars(module)) for module in model.modules()), "what was measured is given back"


@pytest.mark.parametrize("init", KINDS)
def test_two_runs_with_one_seed_begin_alike(model_dir, init):
    one, other = (load(model_dir, init).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("init", "keys"),
    [
        ("eva", {}),
        ("corda", {}),
        ("lora_ga", {}),
        ("corda", {"peft_use_dora": True}),
        ("lora_ga", {"peft_use_rslora": True, "lora_rank_pattern": {"q_proj": 2}}),
    ],
)
def test_plain_peft_computes_what_was_trained(model_dir, tmp_path, init, keys):
    loaded = load(model_dir, init, **keys)
    stir(loaded.model)
    cfg = make_config(base_model=str(model_dir), **{**LORA, KEY: init, **keys})
    save_final(loaded.model, loaded.tokenizer, tmp_path / "out", cfg)
    torch.manual_seed(99)
    base = AutoModelForCausalLM.from_pretrained(model_dir)
    plain, expected = logits(base), logits(loaded.model)
    again = logits(PeftModel.from_pretrained(base, str(tmp_path / "out")))
    if init == "eva":
        assert torch.equal(again, expected)
    assert torch.allclose(again, expected, atol=3e-6)
    assert not torch.allclose(plain, expected, atol=1e-3)
    report = merge_lora(cfg, tmp_path / "out", tmp_path / "merged")
    assert report.merged == len(ranks(loaded.model))


@pytest.mark.parametrize("init", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_run_has_the_same_bits_without_looking_at_data(model_dir, tmp_path, init, dtype):
    from newt.training.weights import load_weights

    keys = {"bfloat16": True} if dtype == "bfloat16" else {}
    model = load(model_dir, init, **keys).model
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    stir(model)
    model.save_pretrained(tmp_path)
    write_beside(model, tmp_path)
    data = FirstBatches(refuse, first().loss, tmp_path)
    again = load(model_dir, init, data, **keys).model
    assert ranks(again) == ranks(model)
    for name, value in again.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(value, begun[name]), f"{name} of the base differs"
    load_weights(again, tmp_path)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    # And its own checkpoints have the same beginning.
    again.save_pretrained(tmp_path / "later")
    write_beside(again, tmp_path / "later")
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path, tmp_path / "later"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_another_run_is_refused(model_dir, tmp_path):
    model = load(model_dir, "corda").model
    model.save_pretrained(tmp_path)
    write_beside(model, tmp_path)
    data = FirstBatches(refuse, first().loss, tmp_path)
    with pytest.raises(NewtError, match="does not hold the beginning of"):
        load(model_dir, "corda", data, lora_r=8)


def test_eva_gives_ranks_to_the_layers_that_need_them(model_dir, tmp_path):
    model = load(model_dir, "eva").model
    found = ranks(model)
    assert set(found.values()) != {4}, "not all have the rank of the config"
    assert sum(found.values()) <= 14 * 4
    config = model.peft_config["default"]
    assert config.init_lora_weights is True
    pattern = config.rank_pattern
    assert pattern
    for name, layer in lora_layers(model):
        directions = layer.lora_A["default"].weight
        assert torch.allclose(directions @ directions.T, torch.eye(len(directions)), atol=1e-4), "orthonormal"
        assert not layer.lora_B["default"].weight.any()
        assert layer.scaling["default"] == pytest.approx(2.0), f"alpha follows the rank in {name}"


def test_eva_begins_with_what_the_layer_reads(model_dir):
    """The directions explain more of a layer's inputs than as many random ones."""
    model = load(model_dir, "eva").model
    layer = next(layer for name, layer in lora_layers(model) if "down_proj" in name)
    seen = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    with torch.no_grad():
        for batch in batches():
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    handle.remove()
    inputs = torch.cat([part.flatten(0, 1) for part in seen])
    inputs = inputs - inputs.mean(0)
    directions = layer.lora_A["default"].weight.detach()
    random = torch.linalg.qr(torch.randn(directions.T.shape, generator=torch.Generator().manual_seed(0)))[0].T
    assert (inputs @ directions.T).square().sum() > 3 * (inputs @ random.T).square().sum()


def test_lora_ga_steps_where_the_gradient_of_the_weight_points(model_dir):
    """After one small step of gradient descent on A and B the loss falls more than from the plain beginning."""
    after = {}
    for init in ("lora_ga", True):
        model = load(model_dir, init).model
        before = mean_loss(model)
        sum(plain_causal_loss(model, batch, trained_tokens(batch)) / 6 for batch in batches()).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.02 * parameter.grad
        after[init] = mean_loss(model) - before
    assert after["lora_ga"] < after[True] < 0


def test_too_few_trained_tokens_are_refused(model_dir):
    few = [{key: value[:1] for key, value in batch.items()} for batch in batches(4)]
    with pytest.raises(NewtError, match="eva needs 64 trained tokens, twice lora_r, and the data have fewer"):
        load(model_dir, "eva", first(few), lora_r=32)


def test_batches_are_joined_until_there_are_enough_trained_tokens():
    one = {"input_ids": torch.full((2, 3), 7), "attention_mask": torch.ones(2, 3).long()}
    one["labels"] = torch.tensor([[IGNORED, 7, 7], [IGNORED, 7, IGNORED]])
    two = {key: torch.cat([value, value], dim=1) for key, value in one.items()}
    [joined] = _joined([one, two, one], 9)
    assert joined["input_ids"].tolist()[0] == [7, 7, 7, 0, 0, 0]
    assert joined["labels"].shape == (4, 6)
    assert (joined["labels"] != IGNORED).sum() == 3 + 6
    assert list(_joined([one], 4)) == []


def test_what_peft_cannot_begin_with_is_one_line(model_dir):
    with pytest.raises(NewtError, match=r"lora_ga needs the gradient of .*, which gets none") as caught:
        load(model_dir, "lora_ga", first([]))
    assert len(str(caught.value).splitlines()) == 1


def test_a_plan_that_needs_data_says_so(model_dir):
    run = make_run(base_model=str(model_dir), **{**LORA, KEY: "eva"})
    with pytest.raises(NewtError, match="begins from training data, and there are none here"):
        load_model(run.load_plan(), load_tokenizer(run.cfg))


def test_the_saved_config_is_that_of_a_plain_adapter(model_dir, tmp_path):
    loaded = load(model_dir, "corda")
    save_final(loaded.model, loaded.tokenizer, tmp_path, make_config(base_model=str(model_dir), **LORA))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True)
    assert config["corda_config"] is None
