"""Attention functions that transformers does not have, registered through its own interface on a finished model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from newt.support.errors import NewtError

AttentionFn = Callable[..., tuple[Tensor, Tensor | None]]
"""(module, query, key, value, attention_mask, **options) -> output (batch, seq, heads, head_dim), None.
Query, key and value are (batch, heads, seq, head_dim)."""


def use(model: Any, name: str, function: AttentionFn, masks_of: str) -> None:
    """Let a model compute attention with a function of ours.

    Args:
        model: a transformers model, or peft's wrapper around one.
        name: to register it under.
        function: the attention.
        masks_of: implementation whose masks it reads.
    """
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[masks_of])
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.set_attn_implementation(name)


# --------------------------------------------------------------------------- scaled softmax


def softmax_factors(positions: Tensor, factor: float, bias: float, window: int | None = None) -> Tensor:
    """What the scores of each query are multiplied by: ``factor * log(n) + bias`` for n visible tokens.

    Args:
        positions: of the tokens in their samples, (batch, seq).
        factor: times the logarithm.
        bias: added to it.
        window: tokens that a query sees at most.

    Returns:
        float32 (batch, seq). Source: https://arxiv.org/abs/2501.19399.
    """
    visible = positions + 1
    if window is not None:
        visible = visible.clamp(max=window)
    return factor * visible.float().log() + bias


def use_scaled_softmax(model: Any, factor: float, bias: float) -> None:
    """Multiply the scores of each query by ``factor * log(n) + bias``, with the implementation that the model has.

    The factor belongs to the query, so that the query is multiplied: the scores are the same as if they were.

    Raises:
        NewtError: the model computes attention by code of its own (eager).
    """
    base = model.config._attn_implementation
    if base not in ALL_ATTENTION_FUNCTIONS:
        raise NewtError(f"scaling_softmax: {base} attention cannot be scaled. Set attn_implementation: flex_attention")
    compute = ALL_ATTENTION_FUNCTIONS[base]

    def scaled(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        positions = options.get("position_ids")
        if positions is None:
            positions = torch.arange(query.shape[2], device=query.device)[None]
        scale = softmax_factors(positions, factor, bias, options.get("sliding_window"))
        query = query * scale[:, None, :, None].to(query.dtype)
        found: tuple[Tensor, Tensor | None] = compute(module, query, key, value, attention_mask, **options)
        return found

    use(model, f"scaled_{base}", scaled, base)


# --------------------------------------------------------------------------- flex attention, compiled as one likes


def use_compiled_flex(model: Any, options: Mapping[str, Any]) -> None:
    """Flex attention that is compiled with the given arguments of ``torch.compile``."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    compiled = torch.compile(flex_attention, **options)

    def compute(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **given: Any
    ) -> tuple[Tensor, None]:
        if given.get("s_aux") is not None or not (attention_mask is None or isinstance(attention_mask, BlockMask)):
            raise NewtError("flex_attn_compile_kwargs: this model needs more than flex attention: remove it")
        cap = given.get("softcap") or 0.0

        def capped(score: Tensor, *_: Tensor) -> Tensor:
            return cap * torch.tanh(score / cap)

        groups = query.shape[1] != key.shape[1]
        out = compiled(
            query,
            key,
            value,
            score_mod=capped if cap else None,
            block_mask=attention_mask,
            scale=given.get("scaling"),
            enable_gqa=groups,
        )
        return out.transpose(1, 2).contiguous(), None

    use(model, "compiled_flex_attention", compute, "flex_attention")


# --------------------------------------------------------------------------- large heads


def use_large_heads(model: Any, largest: int = 256) -> None:
    """Layers with heads that flash attention cannot compute use sdpa; the others stay as they are.

    Args:
        model: loaded with a flash attention.
        largest: numbers in a head that it computes.
    """
    flash = model.config._attn_implementation
    if flash not in ALL_ATTENTION_FUNCTIONS:
        raise NewtError(f"gemma4_hybrid_attn_impl: needs flash attention, and the model has {flash}")
    small, large = ALL_ATTENTION_FUNCTIONS[flash], ALL_ATTENTION_FUNCTIONS["sdpa"]

    def compute(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        if query.shape[-1] <= largest:
            found: tuple[Tensor, Tensor | None] = small(module, query, key, value, attention_mask, **options)
            return found
        # Flash attention's mask says only what is padding; sdpa wants to know who sees whom.
        seen = visible_pairs(query.shape[2], options.get("position_ids"), attention_mask, options.get("sliding_window"))
        found = large(module, query, key, value, seen.to(query.device), **options)
        return found

    use(model, f"hybrid_{flash}", compute, flash)


def visible_pairs(
    length: int, positions: Tensor | None, padding: Tensor | None = None, window: int | None = None
) -> Tensor:
    """Which tokens each token sees: those before it in its sample, itself included.

    Args:
        length: tokens of a row.
        positions: (batch, seq); a sample begins where they are 0.
        padding: (batch, seq), 0 at padding; None: there is none.
        window: tokens that one sees at most.

    Returns:
        bool (batch, 1, seq, seq), True where the query (third dimension) sees the key (last dimension).
    """
    device = positions.device if positions is not None else None
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    seen = ((distance >= 0) & (distance < (window or length)))[None]
    if positions is not None:
        number = (positions == 0).cumsum(-1)
        seen = seen & (number[:, :, None] == number[:, None, :])
    if padding is not None:
        # A padded query sees itself, so that no row of the softmax is empty.
        seen = seen & padding.bool()[:, None, :] | (distance == 0)
    return seen[:, None]


# --------------------------------------------------------------------------- sdpa, sample by sample


def samples_of(mask: Tensor) -> list[list[int]] | None:
    """Lengths of the samples of each row, if a mask lets tokens see exactly those before them in their sample.

    Args:
        mask: bool (batch, 1, seq, seq), True where the query (third dimension) sees the key.
    """
    positions = mask[:, 0].sum(-1) - 1
    if not torch.equal(mask, visible_pairs(mask.shape[-1], positions)):
        return None
    return [sample_lengths(row[None]) for row in positions]


def use_sdpa_by_sample(model: Any) -> None:
    """Compute the attention of packed rows sample by sample, instead of all pairs of a row and most of them masked.

    The pairs are the same, so the result is. On a CPU the kernels skip nothing that a mask hides: the time of a row
    grows with its length squared, and now with that of its samples. They are faster in float32 than in 16 bits (and
    more exact), so that is what they get. Other masks, and other implementations than sdpa, stay as they are.
    """
    if model.config._attn_implementation != "sdpa":
        return
    base = ALL_ATTENTION_FUNCTIONS["sdpa"]
    # All layers of a pass share their mask (or one for each kind of layer), so it is looked at once.
    seen: dict[int, tuple[weakref.ref[Tensor], list[list[int]] | None]] = {}

    def lengths_of(mask: Tensor) -> list[list[int]] | None:
        known = seen.get(id(mask))
        if known is None or known[0]() is not mask:
            for number in [number for number, (kept, _) in seen.items() if kept() is None]:
                del seen[number]
            known = seen[id(mask)] = weakref.ref(mask), samples_of(mask)
        return known[1]

    def compute(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        square = (len(query), 1, query.shape[2], query.shape[2])
        plain = isinstance(attention_mask, Tensor) and attention_mask.dtype == torch.bool
        if not plain or torch.compiler.is_compiling() or options.get("position_bias") is not None:
            lengths = None
        else:
            fits = attention_mask.shape == square and key.shape[2] == query.shape[2] and getattr(module, "is_causal", 0)
            lengths = lengths_of(attention_mask) if fits else None
        if lengths is None:
            found: tuple[Tensor, Tensor | None] = base(module, query, key, value, attention_mask, **options)
            return found
        states, rows = [state.float() for state in (query, key, value)], []
        with torch.autocast(query.device.type, enabled=False):
            for row, parts in enumerate(lengths):
                pieces = zip(*(torch.split(state[row : row + 1], parts, 2) for state in states), strict=True)
                rows.append(torch.cat([base(module, *piece, None, **options)[0] for piece in pieces], 1))
        return torch.cat(rows).to(query.dtype), None

    use(model, "sdpa_by_sample", compute, "sdpa")


# --------------------------------------------------------------------------- xformers


def sample_lengths(positions: Tensor) -> list[int]:
    """Tokens of each sample of a batch, row by row; a sample begins where ``positions`` (batch, seq) are 0."""
    begins = positions == 0
    begins[:, 0] = True
    starts = begins.flatten().nonzero().flatten()
    ends = torch.cat([starts[1:], starts.new_tensor([positions.numel()])])
    found: list[int] = (ends - starts).tolist()
    return found


def use_xformers(model: Any) -> None:
    """Memory-efficient attention of the xformers package, which skips what lies between two samples."""
    from xformers import ops  # type: ignore[import-not-found, unused-ignore]

    def compute(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
    ) -> tuple[Tensor, None]:
        batch, heads, length, _ = query.shape
        positions = options.get("position_ids")
        if positions is None:
            positions = torch.arange(length, device=query.device)[None]
        bias = ops.fmha.attn_bias.BlockDiagonalCausalMask.from_seqlens(sample_lengths(positions.expand(batch, -1)))
        if window := options.get("sliding_window"):
            bias = bias.make_local_attention(window)
        repeat = heads // key.shape[1]
        states = (query, key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1))
        rows = [state.transpose(1, 2).reshape(1, batch * length, heads, -1) for state in states]
        dropout = options.get("dropout") or 0.0
        out = ops.memory_efficient_attention(*rows, attn_bias=bias, p=dropout, scale=options.get("scaling"))
        return out.reshape(batch, length, heads, -1), None

    use(model, "xformers", compute, "flash_attention_2")
