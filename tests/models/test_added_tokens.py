"""Reserved tokens with another text."""

import json
import shutil

import pytest
from tests.helpers import make_config
from transformers import AutoTokenizer

from newt.models.tokenizer import load_tokenizer, save_tokenizer
from newt.support.errors import NewtError


def renamed(folder, texts, **keys):
    return load_tokenizer(make_config(base_model=str(folder), added_tokens_overrides=texts, **keys))


def test_the_id_stays_and_the_text_changes_everywhere(model_dir, tmp_path):
    found = renamed(model_dir, {1: "<|turn|>", 2: "<|stop|>"})
    assert (found.eos_token, found.eos_token_id, found.pad_token_id) == ("<|stop|>", 2, 0)
    assert len(found) == 600
    assert found.newt_untrained == []
    assert found("a<|turn|>b<|stop|>")["input_ids"][1::2] == [1, 2]
    assert len(found("<|im_end|>")["input_ids"]) > 1
    assert "<|im_end|>" not in found.get_vocab()
    text = found.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|turn|>user\nhi<|stop|>\n"
    assert found.newt_notes == [
        "the chat template used <|im_start|>, <|im_end|>: it has the new text now (added_tokens_overrides)"
    ]
    save_tokenizer(found, tmp_path, make_config())
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("a<|turn|>b<|stop|>")["input_ids"] == found("a<|turn|>b<|stop|>")["input_ids"]
    assert (again.eos_token, again.chat_template) == ("<|stop|>", found.chat_template)


def test_texts_may_change_places(model_dir):
    found = renamed(model_dir, {1: "<|im_end|>", 2: "<|im_start|>"})
    assert found.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"]) == [1, 2]
    assert found.eos_token == "<|im_start|>"


def test_a_token_that_the_tokenizer_adds_by_itself_is_renamed_too(model_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "bos")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }
    path.write_text(json.dumps(content))
    assert renamed(folder, {1: "<|turn|>"})("a")["input_ids"][0] == 1


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({77: "<a>"}, "token 77 was not found among the added tokens: they are 0 to 2"),
        ({1: "<|im_end|>"}, r"'<\|im_end\|>' is the text of token 2 already"),
    ],
)
def test_impossible_changes_are_one_line(model_dir, texts, expected):
    with pytest.raises(NewtError, match=expected) as caught:
        renamed(model_dir, texts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "number"), [("llama3_1", 128002), ("gemma3", 6), ("qwen3", 151646)])
def test_real_tokenizers(model_dir, real_tokenizer, name, number):
    folder = {"tokenizer_config": str(real_tokenizer(name))}
    found = renamed(model_dir, {number: "<|mine|>"}, **folder)
    plain = load_tokenizer(make_config(base_model=str(model_dir), **folder))
    text = "Two words, <b>and</b> 17 more."
    assert found(text)["input_ids"] == plain(text)["input_ids"]
    assert found("<|mine|>", add_special_tokens=False)["input_ids"] == [number]
    assert len(found) == len(plain)
