"""What a tensor becomes when it is held in 4 bits: the arithmetic of bitsandbytes in plain torch, bit for bit.

A tensor is cut into blocks of 64 values in row-major order. Each is divided by its largest magnitude, and each value
takes the nearest of 16 codes (NF4: https://arxiv.org/abs/2305.14314, appendix E; FP4: sign, two exponent bits, one of
mantissa). With double quantization the magnitudes, less their mean, are held in 8 bits themselves: blocks of 256 and
the dynamic code of https://arxiv.org/abs/1511.04561.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from newt.support.errors import NewtError

BLOCK = 64
SECOND_BLOCK = 256
TABLE = 65_535
CODES: dict[str, tuple[float, ...]] = {
    "nf4": (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ),
    "fp4": tuple(x / 12.0 for x in (-12, -8, -6, -4, -3, -2, -0.0625, 0, 0, 0.0625, 2, 3, 4, 6, 8, 12)),
}  # fmt: skip
"""Kind -> its 16 values, in order."""


def through_four_bits(weight: Tensor, kind: str = "nf4", double: bool = True, *, on_cpu: bool = False) -> Tensor:
    """The tensor as bitsandbytes gives it back after it was quantized to 4 bits.

    Args:
        weight: float32, bfloat16 or float16, of any shape; the result has the same type and shape.
        kind: ``nf4`` or ``fp4``.
        double: the magnitudes of the blocks are quantized too.
        on_cpu: it was quantized on a CPU, where bitsandbytes looks the code of a magnitude up in a table of 65,536
            values, so that one in a thousand gets the neighbour of the code that a GPU gives it.

    Raises:
        NewtError: an unknown kind.
    """
    if kind not in CODES:
        raise NewtError(f"weights in 4 bits are of the kind nf4 or fp4, not {kind!r}")
    code = torch.tensor(CODES[kind], dtype=torch.float32, device=weight.device)
    scaled, scales, size = _scaled(weight.reshape(-1).float(), BLOCK)
    values = code[torch.bucketize(scaled, _middles(code))]
    if double:
        mean = scales.mean()
        scales = _through_eight_bits(scales - mean, table=on_cpu) + mean
    return (values * scales[:, None]).reshape(-1)[:size].reshape(weight.shape).to(weight.dtype)


def _scaled(flat: Tensor, block: int) -> tuple[Tensor, Tensor, int]:
    """Blocks in [-1, 1] (blocks, block), the last one filled up with zeros; their magnitudes; the true size."""
    size = flat.numel()
    blocks = torch.nn.functional.pad(flat, (0, -size % block)).reshape(-1, block)
    scales = blocks.abs().amax(dim=1)
    inverse = 1.0 / scales.clamp(min=1e-38)
    return (blocks * inverse[:, None]).clamp(-1, 1), scales, size


def _middles(code: Tensor) -> Tensor:
    return (code[:-1] + code[1:]) / 2


def _through_eight_bits(flat: Tensor, *, table: bool) -> Tensor:
    code = _dynamic_code().to(flat.device)
    scaled, scales, size = _scaled(flat, SECOND_BLOCK)
    if table:
        scaled = ((scaled + 1) / 2 * TABLE + 0.5).floor() / TABLE * 2 - 1
    values = code[torch.bucketize(scaled, _middles(code))]
    return (values * scales[:, None]).reshape(-1)[:size]


@lru_cache
def _dynamic_code() -> Tensor:
    """The 256 values of the dynamic 8-bit type: seven decades, each finer than the one below, zero and one."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1, dtype=torch.float32)
        middles = (10.0 ** (decade - 6) * ((edges[:-1] + edges[1:]) / 2)).tolist()
        values += [*middles, *(-value for value in middles)]
    return torch.tensor(sorted(values), dtype=torch.float32)
