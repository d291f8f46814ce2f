"""Conversions that change nothing are left out, and no others."""

import torch
from tests.models.tiny import IDS, load, stir

from newt.models.adapters import attach_lora
from newt.models.lora_casts import OutsideAutocast, skip_casts


def adapted(folder, **options):
    """A base in bfloat16 with an adapter in float32."""
    model = load(folder).model.bfloat16()
    return attach_lora(model, None, linear=True, options={"r": 4, "lora_alpha": 8, **options})


def step(model):
    """Loss and gradients of one step under autocast."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_the_loss_and_every_gradient_stay_bit_identical(model_dir):
    model = adapted(model_dir)
    stir(model)
    before = step(model)
    skip_casts(model)
    after = step(model)
    assert torch.equal(before[0], after[0])
    assert len(before[1]) == 28
    assert all(torch.equal(after[1][name], grad) for name, grad in before[1].items())


def test_a_layers_input_is_not_converted_under_autocast_only(model_dir):
    model = adapted(model_dir)
    skip_casts(model)
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    seen = []
    layer.lora_A["default"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.no_grad():
        model(input_ids=IDS)  # as when it answers a prompt
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=IDS)
    assert seen == [torch.float32, torch.bfloat16]


def test_dora_keeps_its_conversions(model_dir):
    model = adapted(model_dir, use_dora=True)
    skip_casts(model)
    assert model.base_model.model.model.layers[0].mlp.up_proj.cast_input_dtype_enabled is True


def test_it_compiles_in_one_piece():
    outside = OutsideAutocast()

    def choose(x):
        return x + 1 if outside else x - 1

    compiled = torch.compile(choose, backend="eager", fullgraph=True)
    assert compiled(torch.zeros(())) == 1
