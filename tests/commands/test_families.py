"""newt families: what was proved, and why something is not possible."""

import pytest
from click.testing import CliRunner

from newt.commands.families import command, details, page, table
from newt.registry import FAMILIES
from newt.support.errors import NewtError


def run(*args):
    return CliRunner().invoke(command, list(args), catch_exceptions=False).output


def test_the_table_has_a_row_for_each_model_type():
    heading, *rows = table()
    assert heading[:4] == ("family", "model type", "packing", "full")
    assert [row[1] for row in rows] == [kind for family in FAMILIES for kind in family.model_types]
    found = {row[1]: row for row in rows}
    assert found["llama"] == ("llama", "llama", *["yes"] * 7)
    assert found["gpt_oss"][2:] == ("with a mask", "yes", "yes", "yes", "yes*", "yes", "yes")
    assert found["jamba"][2] == "no"
    assert found["granitemoehybrid"][2] == "without state"


def test_it_prints_the_table_and_the_other_architectures():
    out = run()
    assert out.startswith("family")
    assert "apertus" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("jamba", ["Mamba layers", "packing: no: the state of its JambaMambaDecoderLayer", "QLoRA: yes, with quant"]),
        ("gpt_oss", ["packing: yes, with an explicit mask", "attention that it lacks: sdpa", "GptOssDecoderLayer"]),
        ("LLAMA", ["llama4_text:", "packing with flash attention: no", "layers: LlamaDecoderLayer"]),
        ("qwen3_next", ["GatedDeltaNet layers runs on", "with seq_idx it asks for CUDA kernels, which is not proved"]),
        ("falcon", ["QLoRA: load_in_4bit: bitsandbytes quantizes none of this model's layers (FalconLinear)"]),
        ("gpt2", ["n_positions tokens are the longest row", "layers: GPT2Block"]),
        ("starcoder2", ["packing: yes, by position_ids"]),
        ("opt", ["packing: yes, with an explicit mask"]),
    ],
)
def test_details(name, texts):
    out = run(name)
    assert all(text in out for text in texts), out


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(NewtError, match=r"no family and no model type 'lama'\. Did you mean llama\?"):
        list(details("lama"))


def test_the_page_gives_reasons():
    assert "| llama | llama | yes |" in page()
    assert "- jamba, packing: the state of its" in page()
    assert "- mixtral, QLoRA: yes, with quantize_moe_experts: true." in page()
    assert "yes\\*" in page()


def test_every_no_and_every_condition_has_a_reason():
    heading, *rows = table()
    text = page()
    for row in rows:
        for column, cell in zip(heading[2:], row[2:], strict=True):
            if cell in ("no", "yes*", "without state"):
                assert f"- {row[1]}, {column}: " in text, (row[1], column)
