"""Special tokens, their order, and the embedding rows that they need."""

import json
import shutil

import pytest
import torch
from tests.helpers import make_config
from tests.models.tiny import LORA, load
from transformers import AutoTokenizer

from newt.models.tokenizer import load_tokenizer
from newt.support.errors import NewtError


def tokenizer(folder, **keys):
    return load_tokenizer(make_config(base_model=str(folder), **keys))


@pytest.fixture
def bare(model_dir, tmp_path):
    """A model folder whose tokenizer has no padding token."""
    folder = shutil.copytree(model_dir, tmp_path / "bare")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("pad_token")
    path.write_text(json.dumps(settings))
    return folder


def test_padding_falls_back_to_the_end_token_only_when_nothing_else_is_said(bare, model_dir):
    found = tokenizer(bare)
    assert found.pad_token == "<|im_end|>"
    assert found.newt_notes == ["the tokenizer has no padding token: <|im_end|> is used (special_tokens.pad_token)"]
    named = tokenizer(bare, special_tokens={"pad_token": "<|endoftext|>"})
    assert (named.pad_token, named.newt_notes) == ("<|endoftext|>", [])
    assert tokenizer(model_dir).pad_token == "<|endoftext|>"


def test_the_fallback_uses_the_new_end_token(bare):
    assert tokenizer(bare, special_tokens={"eos_token": "<|endoftext|>"}).pad_token == "<|endoftext|>"


def test_a_tokenizer_without_padding_and_end_is_an_error(bare):
    path = bare / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("eos_token")
    path.write_text(json.dumps(settings))
    with pytest.raises(NewtError, match=r"special_tokens\.pad_token: .* neither a padding nor an end token"):
        tokenizer(bare)


def test_added_tokens_stay_whole_and_special_ones_are_special(model_dir):
    found = tokenizer(
        model_dir,
        tokens=["<plain>"],
        special_tokens={"additional_special_tokens": ["<extra>"], "bos_token": "<|im_start|>"},
    )
    ids = found("x<plain>y<extra>z")["input_ids"]
    assert found.convert_ids_to_tokens(ids) == ["x", "<plain>", "y", "<extra>", "z"]
    assert found.decode(ids, skip_special_tokens=True).replace(" ", "") == "x<plain>yz"
    assert found.bos_token == "<|im_start|>"
    assert len(found) == 602
    assert found.newt_untrained == ["<extra>", "<plain>"]


def test_what_was_special_before_stays_special(model_dir):
    found = tokenizer(model_dir, special_tokens={"additional_special_tokens": ["<extra>"]})
    assert set(found.all_special_tokens) >= {"<extra>", "<|im_end|>", "<|endoftext|>"}


def test_settings_survive_saving(model_dir, tmp_path):
    cfg = make_config(base_model=str(model_dir), special_tokens={"pad_token": "<pad>"})
    load_tokenizer(cfg, "{{ messages }}").save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert (again.pad_token, again.pad_token_id, again.chat_template) == ("<pad>", 600, "{{ messages }}")


def test_unknown_classes_and_folders_are_one_line(model_dir, tmp_path):
    with pytest.raises(NewtError, match="tokenizer_type: transformers has no class Lama2Tokenizer"):
        tokenizer(model_dir, tokenizer_type="Lama2Tokenizer")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NewtError, match="tokenizer_config: cannot load a tokenizer from") as caught:
        tokenizer(model_dir, tokenizer_config=str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)


def rows(found):
    return found.model.get_input_embeddings().weight.shape[0]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, 608),  # the model has spare rows: they stay
        ({"shrink_embeddings": True}, 600),
        ({"resize_token_embeddings_to_32x": True}, 608),
        ({"tokens": [f"<t{i}>" for i in range(20)]}, 620),
        ({"tokens": [f"<t{i}>" for i in range(20)], "resize_token_embeddings_to_32x": True}, 640),
    ],
)
def test_embedding_rows(model_dir, keys, expected):
    found = load(model_dir, **keys)
    assert rows(found) == expected == found.model.config.vocab_size
    assert found.model.lm_head.weight is found.model.model.embed_tokens.weight
    assert any("resized from 608" in note for note in found.notes) == (expected != 608)


def test_mean_resizing_draws_from_the_old_rows(model_dir):
    tokens = [f"<t{i}>" for i in range(20)]
    old = load(model_dir).model.model.embed_tokens.weight
    new = load(model_dir, tokens=tokens, mean_resizing_embeddings=True).model.model.embed_tokens.weight
    plain = load(model_dir, tokens=tokens).model.model.embed_tokens.weight
    assert torch.equal(new[:608], old)
    assert torch.equal(plain[:608], old)
    assert not torch.equal(new[608:], plain[608:])


def test_a_new_token_with_an_adapter_needs_trained_ends(model_dir):
    new = {"special_tokens": {"eos_token": "<|eot_id|>"}}
    with pytest.raises(NewtError, match=r"'<\|eot_id\|>' is new .*lora_modules_to_save: \[embed_tokens, lm_head\]"):
        load(model_dir, **LORA, **new)
    found = load(model_dir, **LORA, **new, lora_modules_to_save=["embed_tokens", "lm_head"])
    assert found.model.get_input_embeddings().weight.requires_grad
    load(model_dir, **new)  # everything is trained
    load(model_dir, **LORA, special_tokens={"eos_token": "<|endoftext|>"})  # not new
    load(model_dir, **LORA, special_tokens={"pad_token": "<pad>"})  # never trained


def test_special_ids_follow_the_tokenizer_and_old_stops_stay(model_dir):
    found = load(model_dir, special_tokens={"eos_token": "<|endoftext|>", "bos_token": "<|im_start|>"})
    config, generation = found.model.config, found.model.generation_config
    assert (config.eos_token_id, config.bos_token_id, config.pad_token_id) == (0, 1, 0)
    assert generation.eos_token_id == [0, 2]
    assert "the model's eos_token_id 2 is now 0, as the tokenizer has it" in found.notes


def test_legacy_is_passed_on_only_when_it_is_given(model_dir):
    assert tokenizer(model_dir, tokenizer_legacy=False).init_kwargs["legacy"] is False
    assert tokenizer(model_dir, tokenizer_legacy=True).init_kwargs["legacy"] is True
    assert "legacy" not in tokenizer(model_dir).init_kwargs


def test_new_rows_may_be_trained_alone(model_dir):
    new = {"tokens": ["<a>", "<b>"]}
    with pytest.raises(NewtError, match=r"or train these rows alone with peft_trainable_token_indices: \[600, 601\]"):
        load(model_dir, **LORA, **new, peft_trainable_token_indices=[600])
    found = load(model_dir, **LORA, **new, peft_trainable_token_indices=[600, 601])
    assert found.trainable == load(model_dir, **LORA).trainable + 2 * 64


@pytest.mark.parametrize(
    ("kind", "expected"), [("LlamaTokenizer", "</s>"), ("GPTNeoXTokenizer", "[PAD]"), ("Qwen2Tokenizer", "<eos>")]
)
def test_families_whose_tokenizers_lack_padding(kind, expected):
    import transformers

    from newt.models.tokenizer import _family_fixes, _pad_fallback

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}
    found = getattr(transformers, kind)(vocab=vocabulary, merges=[], eos_token="<eos>", pad_token=None)
    found.pad_token = None
    _family_fixes(found, {"pad_token": "<x>"})
    assert found.pad_token is None
    _family_fixes(found, {})
    notes = []
    _pad_fallback(found, notes)
    assert found.pad_token == expected
    assert bool(notes) == (kind == "Qwen2Tokenizer")
