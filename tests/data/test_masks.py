"""Masks that keep samples apart: by hand, and for architectures that need one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from newt.data.collate import PackedCollator
from newt.data.masks import additive, block_diagonal, isolating_inputs, sample_numbers
from newt.rows import Isolation

POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 0]])  # samples of 3 and 2 tokens, and padding


def test_a_block_diagonal_mask_by_hand() -> None:
    numbers = sample_numbers(POSITIONS)
    assert numbers.tolist() == [[0, 0, 0, 1, 1, 2]]
    assert numbers.dtype == torch.int32
    seen = block_diagonal(numbers)
    assert seen.shape == (1, 1, 6, 6)
    assert seen[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_a_window_cuts_what_is_too_far_away() -> None:
    seen = block_diagonal(sample_numbers(POSITIONS), window=2)
    assert seen[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_an_additive_mask_is_zero_where_a_token_is_seen() -> None:
    seen = block_diagonal(sample_numbers(POSITIONS))
    added = additive(seen)
    assert added.dtype == torch.float32
    assert torch.equal(added == 0, seen)
    assert added[~seen].max() == torch.finfo(torch.float32).min


def test_what_each_isolation_adds() -> None:
    assert isolating_inputs(Isolation(), POSITIONS) == {}
    assert isolating_inputs(Isolation("seq_idx"), POSITIONS)["seq_idx"].tolist() == [[0, 0, 0, 1, 1, 2]]
    masks = isolating_inputs(Isolation("mask", {"full_attention": None, "sliding_attention": 2}), POSITIONS)
    kinds = masks["attention_mask"]
    assert isinstance(kinds, dict)
    assert torch.equal(kinds["full_attention"], block_diagonal(sample_numbers(POSITIONS)))
    assert torch.equal(kinds["sliding_attention"], block_diagonal(sample_numbers(POSITIONS), 2))


SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 96,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128, "max_position_embeddings": 256, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2,
    "word_embed_proj_dim": 64,
}  # fmt: skip

NEED_A_MASK = [
    ("gpt_oss", "eager", Isolation("mask", {"full_attention": None, "sliding_attention": 8}, additive=True)),
    ("opt", "sdpa", Isolation("mask")),
    ("opt", "eager", Isolation("mask", additive=True)),
]


@pytest.mark.parametrize(("kind", "attention", "isolation"), NEED_A_MASK, ids=["gpt_oss", "opt sdpa", "opt eager"])
def test_a_mask_keeps_samples_apart_where_position_ids_do_not(kind: str, attention: str, isolation: Isolation) -> None:
    torch.manual_seed(0)
    known = AutoConfig.for_model(kind)
    config = AutoConfig.for_model(kind, **{key: value for key, value in SMALL.items() if hasattr(known, key)})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    samples = [
        {"input_ids": ids, "labels": ids}
        for ids in (np.random.default_rng(n).integers(3, 128, n).astype(np.int32) for n in (21, 34))
    ]

    def logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            inputs = {key: value for key, value in batch.items() if key != "labels"}
            return model(**inputs, use_cache=False).logits[0]

    alone = torch.cat([logits(PackedCollator(0, isolation=isolation)([[sample]])) for sample in samples])
    packed = logits(PackedCollator(0, isolation=isolation)([samples]))
    scale = max(1.0, float(packed.abs().max()))
    assert float((packed - alone).abs().max()) < 2e-5 * scale
    # The test can fail: position ids alone do not do it here.
    mixed = logits(PackedCollator(0)([samples]))
    assert float((mixed - alone).abs().max()) > 1e-2 * scale
