"""Tensors are given as a checkpoint in 16 or 32 bits has them, whatever stands in the files."""

import json

import pytest
import torch
from safetensors.torch import save_file

from newt.models.checkpoint_files import CheckpointFiles, InFewBits
from newt.support.errors import NewtError

FP8 = {"quant_method": "fp8", "weight_block_size": [2, 2]}


def files(folder, tensors, values=None, dtype=torch.float32):
    save_file(tensors, folder / "model.safetensors")
    return CheckpointFiles(folder, values and InFewBits(values, dtype))


def test_blocks_in_fp8_by_hand(tmp_path):
    values = torch.tensor([[1.0, 2, 4, 8], [2, 4, 8, 16]])
    stored = {"x.weight": values.to(torch.float8_e4m3fn), "x.weight_scale_inv": torch.tensor([[0.5, 3.0]])}
    found = files(tmp_path, {**stored, "x.activation_scale": torch.tensor(1.0)}, FP8)
    assert found.names == {"x.weight"}
    assert torch.equal(found.tensor("x.weight"), values * torch.tensor([0.5, 0.5, 3, 3]))


def test_scales_in_one_byte_are_exponents(tmp_path):
    stored = {
        "x": torch.ones(2, 4).to(torch.float8_e4m3fn),
        "x_scale_inv": torch.tensor([[126, 130]], dtype=torch.uint8),
    }
    found = files(tmp_path, stored, {**FP8, "quant_method": "mxfp8"}, torch.bfloat16).tensor("x")
    assert found.dtype == torch.bfloat16
    assert found.tolist() == [[0.5, 0.5, 8.0, 8.0]] * 2


def test_mxfp4_by_hand(tmp_path):
    blocks = torch.full((1, 2, 1, 16), 0x2F, dtype=torch.uint8)  # -6 in the low half, 1 in the high one
    stored = {
        "x_blocks": blocks,
        "x_scales": torch.tensor([[[127], [128]]], dtype=torch.uint8),
        "y_scales": torch.ones(3),
    }
    found = files(tmp_path, stored, {"quant_method": "mxfp4"})
    assert found.names == {"x", "y_scales"}
    assert torch.equal(found.tensor("x")[0], torch.tensor([[-6.0, -12.0], [1.0, 2.0]]).repeat(16, 1))


def test_other_weights_get_the_number_type_unless_they_are_in_float32(tmp_path):
    stored = {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.ones(2), "c": torch.ones(2, dtype=torch.int64)}
    found = files(tmp_path, stored, FP8, torch.float16)
    assert [found.tensor(name).dtype for name in "abc"] == [torch.float16, torch.float32, torch.int64]
    assert found.least_precise() == torch.float16


def test_weights_whose_scales_are_not_known_are_refused(tmp_path):
    found = files(tmp_path, {"x.weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "x.scale": torch.ones(1)}, FP8)
    with pytest.raises(NewtError, match=r"x\.weight has no scale that is known by file: use merge_method: legacy"):
        found.tensor("x.weight")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_plain_checkpoint_is_given_as_it_is(tmp_path, dtype):
    found = files(tmp_path, {"x_blocks": torch.ones(2, dtype=dtype), "x_scale_inv": torch.ones(1)})
    assert found.names == {"x_blocks", "x_scale_inv"}
    assert found.tensor("x_blocks").dtype == found.least_precise() == dtype


def test_files_that_no_index_names_are_passed_over(tmp_path):
    save_file({"y": torch.ones(1)}, tmp_path / "consolidated.safetensors")
    assert CheckpointFiles(tmp_path).shards == {}
    save_file({"x": torch.ones(1)}, tmp_path / "model-1.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-1.safetensors"}}))
    assert CheckpointFiles(tmp_path).shards == {"model-1.safetensors": ["x"]}
