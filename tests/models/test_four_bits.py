"""The 4-bit arithmetic of merging is that of bitsandbytes, bit for bit."""

import pytest
import torch

from newt.models.four_bits import CODES, through_four_bits
from newt.support.errors import NewtError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
def test_it_is_what_bitsandbytes_gives_back(dtype, kind, double):
    functional = pytest.importorskip("bitsandbytes.functional")
    torch.manual_seed(0)
    for shape in ((512, 512), (3, 130, 64), (96, 40), (7, 9)):
        for size in (1.0, 0.02):
            weight = (torch.randn(shape) * size).to(dtype)
            packed, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=double)
            expected = functional.dequantize_4bit(packed, state)
            assert torch.equal(through_four_bits(weight, kind, double, on_cpu=True), expected)


def test_a_gpu_gives_one_magnitude_in_a_thousand_the_neighbouring_code():
    torch.manual_seed(0)
    weight = torch.randn(2048, 1024)
    exact, table = (through_four_bits(weight, on_cpu=on_cpu).reshape(-1, 64) for on_cpu in (False, True))
    other = (exact != table).any(dim=1).float().mean()
    assert 0 < other < 0.004
    assert torch.equal(through_four_bits(weight, double=False, on_cpu=True), through_four_bits(weight, double=False))


def test_values_by_hand():
    weight = torch.zeros(64)
    weight[:5] = torch.tensor([2.0, -2.0, 0.15, 0.17, -1.4])
    found = through_four_bits(weight, double=False)
    # Codes near 0.075, 0.085 and -0.7 of the block's magnitude 2; zero stays zero.
    expected = [2.0, -2.0, 2 * CODES["nf4"][8], 2 * CODES["nf4"][8], 2 * CODES["nf4"][1], 0.0]
    assert torch.equal(found[:6], torch.tensor(expected))
    assert torch.equal(through_four_bits(torch.zeros(3, 64)), torch.zeros(3, 64))


def test_an_unknown_kind():
    with pytest.raises(NewtError, match="nf4 or fp4, not 'int4'"):
        through_four_bits(torch.zeros(64), "int4")
