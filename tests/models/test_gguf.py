"""A GGUF file becomes a folder that gives the same ids and logits as transformers' own loader."""

import json

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.models.tiny import IDS, logits
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.gguf import gguf_tokenizer_mapping

from newt.commands.import_gguf import command
from newt.models.gguf import PROBES, import_gguf
from newt.support.errors import NewtError

NEW_ENOUGH = hasattr(gguf_tokenizer_mapping, "GGUF_PRE_TOKENIZER_SPLITS")
pytestmark = pytest.mark.skipif(not NEW_ENOUGH, reason="transformers reads some GGUF tokenizers wrongly")

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


def permute(weight, heads):
    """llama.cpp interleaves the two halves of each head's rotary dimensions."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, model_dir, *, tied=True, pre="smollm", quantized=False, **fields):
    """Write the tiny Llama as a GGUF file, field by field."""
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    data = json.loads((model_dir / "tokenizer.json").read_text())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    config = model.config
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(608)
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in range(600)] + [f"unused{i}" for i in range(8)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * 605)
    writer.add_token_merges([" ".join(pair) for pair in data["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for key, value in fields.items():
        writer.add_uint32(key.replace("__", "."), value)
    layer = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm"}  # fmt: skip
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if name.startswith("model.layers."):
            number, rest = name.removeprefix("model.layers.").split(".", 1)
            kind = layer[rest.removesuffix(".weight")]
            array = permute(array, {"attn_q": 4, "attn_k": 2}[kind]) if kind in ("attn_q", "attn_k") else array
            name = f"blk.{number}.{kind}.weight"
        else:
            name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                    "lm_head.weight": "output.weight"}[name]  # fmt: skip
        if name == "output.weight" and tied:
            continue
        if quantized and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_the_folder_computes_what_the_model_computed(model_dir, tmp_path, tied):
    file = write_gguf(tmp_path / "tiny.gguf", model_dir, tied=tied)
    found = import_gguf(file, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(model_dir)))
    assert model.config.tie_word_embeddings is tied
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    assert (model.config.eos_token_id, model.config.pad_token_id, model.config.max_position_embeddings) == (2, 0, 512)
    assert (found.model_type, found.notes) == ("llama", [])
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_quantized_weights_are_unpacked_as_the_loader_does(model_dir, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model_dir, quantized=True)
    import_gguf(file, tmp_path / "out")
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), logits(expected))
    assert not torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(model_dir)))
    model(IDS, labels=IDS).loss.backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_the_tokenizer_splits_as_the_vocabulary_wants(model_dir, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model_dir)
    import_gguf(file, tmp_path / "out")
    got = AutoTokenizer.from_pretrained(tmp_path / "out")
    expected = AutoTokenizer.from_pretrained(model_dir)
    expected.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    for text in (*PROBES, "x<|im_end|>y", "a  12   345"):
        assert got(text)["input_ids"] == expected(text)["input_ids"]
        assert got.decode(got(text)["input_ids"]) == text
    assert (got.eos_token, got.pad_token, got.chat_template) == ("<|im_end|>", "<|endoftext|>", TEMPLATE)
    assert got.model_max_length == 512


def test_an_unknown_splitting_is_noted_and_a_second_stop_is_kept(model_dir, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model_dir, pre="martian", tokenizer__ggml__eot_token_id=1)
    found = import_gguf(file, tmp_path / "out")
    assert found.notes == ["the file's text splitting 'martian' is not known here; GPT-2's is used: compare token ids"]
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [2, 1]


def test_bfloat16_is_stored_when_asked(model_dir, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", model_dir)
    result = CliRunner().invoke(command, [str(file), str(tmp_path / "out"), "--dtype", "bfloat16"])
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'out'} holds a llama model" in result.output
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_an_older_transformers_is_refused(model_dir, tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", model_dir)
    monkeypatch.delattr(gguf_tokenizer_mapping, "GGUF_PRE_TOKENIZER_SPLITS")
    with pytest.raises(NewtError, match="needs a newer transformers"):
        import_gguf(file, tmp_path / "out")


def test_what_cannot_be_imported_leaves_nothing_behind(model_dir, tmp_path):
    (tmp_path / "notes.gguf").write_text("hello")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    whole = write_gguf(tmp_path / "tiny.gguf", model_dir)
    (tmp_path / "cut.gguf").write_bytes(whole.read_bytes()[:3000])
    for file, folder, message in (
        ("notes.gguf", "out", "is not a GGUF file"),
        ("absent.gguf", "out", "there is no such file"),
        ("cut.gguf", "out", "is damaged or cut short"),
        ("tiny.gguf", "used", "used is not empty"),
        ("tiny.gguf", "notes.gguf", "is a file: name a new folder"),
    ):
        with pytest.raises(NewtError, match=message) as caught:
            import_gguf(tmp_path / file, tmp_path / folder)
        assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.gguf", "notes.gguf", "tiny.gguf", "used"]
    assert [p.name for p in (tmp_path / "used").iterdir()] == ["file"]
