"""The tokenizer's less common settings."""

import pytest
from tests.helpers import make_config, make_run, messages

from newt.extend import Facts
from newt.features.tokens import Tokens

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
MISTRAL = {"tokenizer_use_mistral_common": True}
OTHER = "cannot be used with a tokenizer of mistral-common."


def said(facts=Facts(), **keys):  # noqa: B008
    run = make_run(facts, **keys)
    return [str(problem) for part in run.parts if isinstance(part, Tokens) for problem in part.check()]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (MISTRAL, []),
        ({**MISTRAL, "chat_template": "chatml"}, [f"chat_template: {OTHER}"]),
        ({**MISTRAL, "tokens": ["<a>"]}, [f"tokens: {OTHER}"]),
        ({**MISTRAL, "special_tokens": {"pad_token": "<p>"}}, [f"special_tokens: {OTHER}"]),
        ({**MISTRAL, "added_tokens_overrides": {5: "<a>"}}, [f"added_tokens_overrides: {OTHER}"]),
        ({**MISTRAL, "processor_kwargs": {"a": 1}}, [f"processor_kwargs: {OTHER}"]),
        ({**MISTRAL, "eot_tokens": ["<e>"]}, [f"eot_tokens: {OTHER}"]),
        (
            {"base_model": "mistralai/Magistral-Small-2506"},
            ["base_model: Magistral models were trained"],
        ),
        ({"base_model": "mistralai/Magistral-Small-2506", "tokenizer_use_mistral_common": False}, []),
        ({"chat_template": "nope"}, ["chat_template: unknown template 'nope'. Valid: tokenizer_default, jinja, "]),
        ({"chat_template": "chatlm"}, ["chat_template: unknown template 'chatlm'. Did you mean chatml?"]),
        (
            {"datasets": [{"path": "a", "type": "chat_template", "chat_template": "lama3"}]},
            ["datasets.0.chat_template: unknown template 'lama3'. Did you mean llama3?"],
        ),
        ({"chat_template": "tokenizer_default"}, []),
        ({"chat_template": "tokenizer_default_fallback_chatml"}, []),
        ({"chat_template_jinja": "{{ messages }}"}, []),
        ({"added_tokens_overrides": {128: "<a>", 129: "<b>"}}, []),
        ({"added_tokens_overrides": {128: "<a>", 129: "<a>"}}, ["added_tokens_overrides: '<a>' is given to several"]),
        ({**LORA, "fix_untrained_tokens": [5], "peft_trainable_token_indices": [5]}, []),
        (
            {**LORA, "fix_untrained_tokens": [7, 5], "peft_trainable_token_indices": [5]},
            ["fix_untrained_tokens: token 7 would not be trained. Add it to peft_trainable_token_indices."],
        ),
        (
            {**LORA, "fix_untrained_tokens": 7, "peft_trainable_token_indices": {"embed_tokens": [5]}},
            ["fix_untrained_tokens: token 7 would not be trained."],
        ),
        ({"fix_untrained_tokens": 7}, []),
        ({"fix_untrained_tokens": []}, ["fix_untrained_tokens: names no token."]),
        ({"special_tokens": {"pad_token": ""}}, ["special_tokens.pad_token: a token needs a text."]),
        (
            {"special_tokens": {"additional_special_tokens": ["<a>", ""]}},
            ["special_tokens.additional_special_tokens: a token needs a text."],
        ),
        ({"tokens": [""]}, ["tokens: a token needs a text."]),
        ({"tokenizer_use_fast": False}, ["tokenizer_use_fast: false has no effect: transformers has one tokenizer"]),
        (
            {
                "chat_template": "chatml",
                "datasets": [
                    {"path": "a", "type": "chat_template"},
                    {"path": "b", "type": "chat_template", "chat_template": "llama3"},
                ],
            },
            ["datasets.1.chat_template: is another template than that of datasets.0, with which the tokenizer is"],
        ),
        (
            {
                "chat_template": "chatml",
                "datasets": [
                    {"path": "a", "type": "chat_template"},
                    {"path": "b", "type": "chat_template", "chat_template": "chatml"},
                    {"path": "c", "type": "alpaca"},
                ],
            },
            [],
        ),
    ],
)
def test_rules(keys, expected):
    found = said(**keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def test_mistral_common_must_be_installed():
    assert said(Facts(known=True), **MISTRAL) == [
        "tokenizer_use_mistral_common: needs the package mistral-common. Install it: pip install 'newt-tune[mistral]'."
    ]
    assert said(Facts(known=True, packages={"mistral-common": "1.8"}), **MISTRAL) == []


def test_embeddings_are_never_converted():
    assert messages() == messages(embeddings_skip_upcast=True) == []
    assert messages(embeddings_skip_upcast=False) == [
        "embeddings_skip_upcast: false is not possible: the embeddings of a frozen base stay in the format of the "
        "arithmetic. Remove it."
    ]


def test_the_template_is_saved_in_a_file_of_its_own_unless_told_otherwise(model_dir, tmp_path):
    from transformers import AutoTokenizer

    from newt.models.tokenizer import load_tokenizer, save_tokenizer

    for own in (True, False):
        cfg = make_config(base_model=str(model_dir), tokenizer_save_jinja_files=own)
        save_tokenizer(load_tokenizer(cfg, "{{ 'mine' }}"), tmp_path, cfg)
        assert (tmp_path / "chat_template.jinja").is_file() is own
        assert AutoTokenizer.from_pretrained(tmp_path).chat_template == "{{ 'mine' }}"
