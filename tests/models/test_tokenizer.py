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


@pytest.mark.parametrize(
    ("keys", "lost"),
    [
        ({"special_tokens": {"pad_token": "<e>", "eos_token": "<e>"}}, "<e>"),
        ({"special_tokens": {"pad_token": "<e>"}, "tokens": ["<e>"]}, "<e>"),
        ({"special_tokens": {"pad_token": "<e>", "additional_special_tokens": ["<e>"]}}, "<e>"),
        ({"special_tokens": {"pad_token": "<e>", "bos_token": "<b>"}}, "<b>"),
        ({"special_tokens": {"pad_token": "<e>"}}, None),
    ],
)
def test_only_a_token_that_is_nothing_but_padding_may_stay_untrained(model_dir, keys, lost):
    found = tokenizer(model_dir, **keys)
    assert found.newt_untrained == ([lost] if lost else [])
    if lost:
        with pytest.raises(NewtError, match=f"'{lost}' is new to this tokenizer"):
            load(model_dir, **LORA, **keys)


def test_a_new_end_token_that_also_pads_is_trained(bare):
    """Without a padding token the end token pads, and is to be learned all the same."""
    new = {"special_tokens": {"eos_token": "<|eot_id|>"}}
    assert tokenizer(bare, **new).pad_token == "<|eot_id|>"
    with pytest.raises(NewtError, match=r"'<\|eot_id\|>' is new .* would stay untrained"):
        load(bare, **LORA, **new)


def test_an_end_token_that_pads_gets_a_gradient_where_it_is_read(model_dir, tmp_path):
    """torch keeps the gradient of the padding row at zero, and many models pad with their end token."""
    folder = shutil.copytree(model_dir, tmp_path / "copy")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token_id": 2, "tie_word_embeddings": False}))
    keys = {"reinit_weights": True, "special_tokens": {"pad_token": "<|im_end|>"}}
    model = load(folder, **keys).model
    ids = torch.tensor([[5, 2, 300, 41]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.get_input_embeddings().weight.grad[2].abs().sum() > 0
    assert load(model_dir).model.get_input_embeddings().padding_idx == 0  # padding alone


def test_a_new_token_needs_a_row_that_is_not_frozen(model_dir):
    new = {"special_tokens": {"eos_token": "<e>"}}
    with pytest.raises(NewtError, match=r"'<e>' is new .* Add the rows \[600\] to unfrozen_parameters"):
        load(model_dir, **new, unfrozen_parameters=["model.embed_tokens.weight[:100]"])
    with pytest.raises(NewtError, match=r"'<e>' is new"):
        load(model_dir, **new, unfrozen_parameters=["model.norm"])
    load(model_dir, **new, unfrozen_parameters=["model.embed_tokens.weight[600]"])
    load(model_dir, **new, unfrozen_parameters=["model.embed_tokens"])


@pytest.fixture
def flat(model_dir, tmp_path):
    """A model whose rows of <|im_start|> and <|im_end|> were never trained."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(model_dir, tmp_path / "flat")
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][1:3] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_reserved_token_with_a_meaning_needs_a_trained_row(flat, model_dir):
    keys = {"added_tokens_overrides": {1: "<tool>"}}
    with pytest.raises(NewtError, match=r"added_tokens_overrides: nobody .* token 1 yet.*token_indices: \[1\]"):
        load(flat, **LORA, **keys)
    load(flat, **LORA, **keys, peft_trainable_token_indices=[1])
    load(flat, **LORA, **keys, lora_modules_to_save=["embed_tokens", "lm_head"])
    load(flat, **keys)  # everything is trained
    load(model_dir, **LORA, **keys)  # its row is trained already


def test_an_end_token_that_nobody_has_trained_is_noted(flat, model_dir):
    def noted(folder, **keys):
        return [note for note in load(folder, **keys).notes if "was never trained" in note]

    assert noted(flat, **LORA) == [
        "the embedding of '<|im_end|>', which ends an answer, was never trained and stays so. Set "
        "lora_modules_to_save: [embed_tokens, lm_head], or train these rows alone with peft_trainable_token_indices: "
        "[2], and set fix_untrained_tokens: [2]"
    ]
    assert len(noted(flat, **LORA, eot_tokens=["<|im_start|>"], peft_trainable_token_indices=[2])) == 1
    assert noted(flat, **LORA, fix_untrained_tokens=2, peft_trainable_token_indices=[2]) == []
    assert noted(flat) == noted(model_dir, **LORA) == []


@pytest.mark.parametrize(
    ("name", "more"),
    [("llama3_1", {}), ("llama2", {}), ("llama2", {"added_tokens_overrides": {0: "<mine>"}}),
     ("llama2", {"tokenizer_legacy": False})],
)  # fmt: skip
def test_a_saved_tokenizer_is_the_one_that_was_trained_with(model_dir, real_tokenizer, tmp_path, name, more):
    from newt.models.tokenizer import save_tokenizer

    special = {"bos_token": "<|b|>", "eos_token": "<|e|>", "additional_special_tokens": ["<extra>"]}
    cfg = make_config(
        base_model=str(model_dir),
        tokenizer_config=str(real_tokenizer(name)),
        special_tokens=special,
        tokens=["<plain>"],
        **more,
    )
    found = load_tokenizer(cfg, "{{ messages }}")
    save_tokenizer(found, tmp_path, cfg)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("two  words\n\ttab", "<extra>x<plain> y<|e|>", "</s><s> \u00e9 \u6f22", "<|im_start|>user\nHi"):
        for add in (True, False):  # text after a special token differs by Llama 2's ``legacy``
            ids = found(text, add_special_tokens=add)["input_ids"]
            assert again(text, add_special_tokens=add)["input_ids"] == ids
            assert again.decode(ids, skip_special_tokens=add) == found.decode(ids, skip_special_tokens=add)
    same = ("bos_token", "eos_token", "pad_token", "unk_token", "padding_side", "chat_template", "all_special_tokens")
    assert [getattr(again, key) for key in same] == [getattr(found, key) for key in same]
