"""Attention functions of our own, against formulas and against what transformers computes."""

import math

import pytest
import torch
from measure_isolation import logits, packed_difference, samples
from tiny_models import tiny_model

from newt.models.attention_functions import (
    sample_lengths,
    samples_of,
    softmax_factors,
    use_compiled_flex,
    use_large_heads,
    use_scaled_softmax,
    use_sdpa_by_sample,
    visible_pairs,
)
from newt.rows import Isolation
from newt.support.errors import NewtError

POSITIONS = torch.tensor([[0, 1, 2, 0, 1]])


def test_the_factor_is_the_logarithm_of_the_visible_tokens():
    found = softmax_factors(POSITIONS, 0.43, 0.5)
    expected = [0.43 * math.log(n) + 0.5 for n in (1, 2, 3, 1, 2)]
    assert torch.allclose(found, torch.tensor([expected]))
    windowed = softmax_factors(POSITIONS, 1.0, 0.0, window=2)
    assert torch.allclose(windowed[0, 2], torch.tensor(math.log(2)))


def by_formula(query, key, value, positions, factor, bias, scaling):
    """Scores times (factor * log(n) + bias), one query after the other."""
    out = torch.zeros_like(query)
    for here in range(query.shape[2]):
        begin = here - int(positions[0, here])
        scores = query[0, :, here : here + 1] @ key[0, :, begin : here + 1].transpose(1, 2) * scaling
        scores = scores * (factor * math.log(here - begin + 1) + bias)
        out[0, :, here] = (scores.softmax(-1) @ value[0, :, begin : here + 1])[:, 0]
    return out


@pytest.mark.parametrize("base", ["sdpa", "flex_attention"])
def test_scaled_attention_is_the_formula(base):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    model = tiny_model("llama", "sdpa")
    model.config._attn_implementation = base
    use_scaled_softmax(model, 0.43, 0.2)
    assert model.config._attn_implementation == f"scaled_{base}"
    query, key, value = torch.randn(3, 1, 4, 5, 16, generator=torch.Generator().manual_seed(0))
    mask = visible_pairs(5, POSITIONS)
    if base == "flex_attention":
        # Eager flex attention, which computes the same without minutes of compiling.
        from torch.nn.attention.flex_attention import create_block_mask

        mask = create_block_mask(lambda b, h, q, k: mask_of[0, 0, q, k], 1, None, 5, 5, device="cpu")
    compute = ALL_ATTENTION_FUNCTIONS[f"scaled_{base}"]
    with torch.compiler.set_stance("force_eager"):
        found, _ = compute(model.eval(), query, key, value, mask, position_ids=POSITIONS, scaling=0.25)
    expected = by_formula(query, key, value, POSITIONS, 0.43, 0.2, 0.25)
    assert torch.allclose(found.transpose(1, 2), expected, atol=1e-5)


mask_of = visible_pairs(5, POSITIONS)


def test_the_model_hands_positions_to_the_scaled_attention():
    model = tiny_model("llama", "sdpa")
    plain = logits(model, samples()[0])
    use_scaled_softmax(model, 0.0, 1.0)
    assert torch.equal(logits(model, samples()[0]), plain)
    use_scaled_softmax(tiny_model("llama", "sdpa"), 0.43, 0.0)  # registered anew, for this model too
    assert not torch.allclose(logits(model, samples()[0]), plain, atol=1e-2)
    assert packed_difference(model, Isolation()) < 1e-5


def test_eager_attention_cannot_be_scaled():
    with pytest.raises(NewtError, match="scaling_softmax: eager attention cannot be scaled"):
        use_scaled_softmax(tiny_model("llama", "eager"), 0.43, 0.0)


def test_compiled_flex_attention_computes_what_sdpa_does():
    model = tiny_model("gemma2", "eager")  # with a cap on the scores, grouped heads and a sliding window
    expected = logits(model, samples()[0])
    model.config._attn_implementation = "flex_attention"
    use_compiled_flex(model, {"backend": "eager", "dynamic": False})
    with torch.compiler.set_stance("force_eager"):  # compiling takes minutes, and changes no number
        assert torch.allclose(logits(model, samples()[0]), expected, atol=1e-4)
        assert packed_difference(model, Isolation()) < 1e-5


def test_large_heads_use_sdpa_and_samples_stay_apart():
    """The attention that is told nothing but position_ids stands for flash attention."""
    from prove_families import VARLEN

    calls = []
    model = tiny_model("gemma4_text", VARLEN, head_dim=32)
    expected = logits(tiny_model("gemma4_text", "sdpa", head_dim=32), samples()[0])
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = ALL_ATTENTION_FUNCTIONS[VARLEN]

    def counted(module, query, *rest, **options):
        calls.append(query.shape[-1])
        return plain(module, query, *rest, **options)

    from transformers import AttentionInterface

    AttentionInterface.register(VARLEN, counted)
    use_large_heads(model, largest=32)
    AttentionInterface.register(VARLEN, plain)
    assert torch.allclose(logits(model, samples()[0]), expected, atol=1e-4)
    assert packed_difference(model, Isolation()) < 1e-5
    sizes = {layer.self_attn.head_dim for layer in model.model.layers}
    assert set(calls) == {size for size in sizes if size <= 32} != sizes


def test_visible_pairs_with_padding_and_a_window():
    padding = torch.tensor([[0, 1, 1, 1, 1]])
    seen = visible_pairs(5, None, padding, window=2)[0, 0]
    assert seen.tolist() == [
        [True, False, False, False, False],
        [False, True, False, False, False],
        [False, True, True, False, False],
        [False, False, True, True, False],
        [False, False, False, True, True],
    ]


def test_sample_lengths_begin_anew_in_each_row():
    positions = torch.tensor([[0, 1, 0, 1, 2], [3, 4, 0, 0, 1]])
    assert sample_lengths(positions) == [2, 3, 2, 1, 2]


def test_the_samples_of_a_mask():
    positions = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 0, 1, 2]])
    assert samples_of(visible_pairs(5, positions)) == [[3, 2], [1, 1, 3]]
    assert samples_of(visible_pairs(5, torch.arange(5)[None])) == [[5]]


@pytest.mark.parametrize(
    "mask",
    [
        visible_pairs(5, POSITIONS, window=2),
        visible_pairs(5, POSITIONS, padding=torch.tensor([[1, 0, 1, 1, 1]])),
        torch.ones(1, 1, 5, 5, dtype=torch.bool),
        torch.zeros(1, 1, 5, 5, dtype=torch.bool),
    ],
    ids=["window", "padding", "not causal", "nothing seen"],
)
def test_a_mask_that_hides_more_or_less_has_no_samples(mask):
    assert samples_of(mask) is None


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral"])
def test_attention_by_sample_gives_the_logits_and_gradients_of_sdpa(name):
    model = tiny_model(name, attention="sdpa")
    positions = torch.tensor([[*range(7), 0, *range(4)], [*range(5), *range(7)]])
    ids = torch.randint(0, 90, positions.shape, generator=torch.Generator().manual_seed(0))

    def compute():
        model.zero_grad()
        found = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        found.square().mean().backward()
        return [found.detach(), *(weight.grad.clone() for weight in model.parameters())]

    plain = compute()
    use_sdpa_by_sample(model)
    assert model.config._attn_implementation == "sdpa_by_sample"
    for expected, found in zip(plain, compute(), strict=True):
        assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()


def test_attention_by_sample_never_sees_the_pairs_between_samples(monkeypatch):
    lengths = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def watched(query, *args, **kwargs):
        lengths.append(query.shape[2])
        return plain(query, *args, **kwargs)

    model = tiny_model("llama", attention="sdpa")
    use_sdpa_by_sample(model)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    model(input_ids=torch.ones(1, 5, dtype=torch.int64), position_ids=POSITIONS, use_cache=False)
    assert set(lengths) == {3, 2}


def test_attention_by_sample_keeps_16_bits_within_their_error():
    model = tiny_model("llama", attention="sdpa").bfloat16()
    ids = torch.randint(0, 90, POSITIONS.shape, generator=torch.Generator().manual_seed(0))
    plain = model(input_ids=ids, position_ids=POSITIONS, use_cache=False).logits
    use_sdpa_by_sample(model)
    found = model(input_ids=ids, position_ids=POSITIONS, use_cache=False).logits
    assert found.dtype == torch.bfloat16
    assert (found - plain).abs().max() <= 0.03 * plain.abs().max()


def test_another_implementation_than_sdpa_stays():
    model = tiny_model("llama", attention="eager")
    use_sdpa_by_sample(model)
    assert model.config._attn_implementation == "eager"
