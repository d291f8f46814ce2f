"""Packed samples do not see each other, proved for every model type that a family declares."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from newt.families.cohere import Cohere
from newt.families.gemma import Gemma
from newt.families.glm import Glm
from newt.families.granite import Granite
from newt.families.llama import Llama
from newt.families.mistral import Mistral
from newt.families.mixtral import Mixtral
from newt.families.olmo import Olmo
from newt.families.phi import Phi
from newt.families.qwen import Qwen
from newt.families.smollm import SmolLm

FAMILIES = (Cohere, Gemma, Glm, Granite, Llama, Mistral, Mixtral, Olmo, Phi, Qwen, SmolLm)
TYPES = [kind for family in FAMILIES if family.isolates_packed for kind in family.model_types]
NO_SDPA = {"gemma2"}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sliding_window": 8,  # shorter than the samples, so that it matters
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "decoder_sparse_step": 1,
}


def tiny(kind, attention):
    torch.manual_seed(0)
    known = AutoConfig.for_model(kind)
    settings = {key: value for key, value in SMALL.items() if hasattr(known, key)}
    config = AutoConfig.for_model(kind, **settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():  # larger weights than at the start of training, so that attention has something to say
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model


def cases():
    for kind in TYPES:
        for attention in ("eager", "sdpa"):
            if (kind, attention) not in {(kind, "sdpa") for kind in NO_SDPA}:
                yield kind, attention


def run(model, ids, positions):
    with torch.no_grad():
        return model(input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False).logits


@pytest.mark.parametrize(("kind", "attention"), list(cases()))
def test_packed_logits_equal_those_of_single_samples(kind, attention):
    model = tiny(kind, attention)
    samples = [
        torch.randint(3, 128, (1, length), generator=torch.Generator().manual_seed(length)) for length in (21, 34)
    ]
    single = [run(model, ids, torch.arange(ids.shape[1])[None]) for ids in samples]
    positions = torch.cat([torch.arange(ids.shape[1]) for ids in samples])[None]
    packed = run(model, torch.cat(samples, dim=1), positions)
    scale = float(packed.abs().max())
    assert float((packed - torch.cat(single, dim=1)).abs().max()) < 2e-5 * max(1.0, scale)
    # The test can fail: with running positions the second sample does see the first.
    mixed = run(model, torch.cat(samples, dim=1), torch.arange(55)[None])
    assert float((mixed[:, 21:] - single[1]).abs().max()) > 1e-2 * scale


def test_no_model_type_belongs_to_two_families():
    kinds = [kind for family in FAMILIES for kind in family.model_types]
    assert len(kinds) == len(set(kinds))
