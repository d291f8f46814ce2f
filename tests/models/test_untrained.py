"""Rows of the embedding that begin as the mean of the trained ones."""

import pytest
import torch
from tests.helpers import make_config
from tests.models.tiny import LORA, load, logits
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from newt.models.save import save_final
from newt.models.untrained import fix_untrained_rows, untrained_rows
from newt.support.errors import NewtError


def model(tied=False):
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=10)
    config.tie_word_embeddings = tied
    found = LlamaForCausalLM(config)
    with torch.no_grad():
        found.get_input_embeddings().weight[7:] = 0
        found.get_input_embeddings().weight[8] = 0.5
    return found


def test_zero_and_constant_rows_are_untrained():
    assert untrained_rows(model().get_input_embeddings().weight.data).nonzero().flatten().tolist() == [7, 8, 9]


def test_named_rows_become_the_mean_of_the_others_in_both_ends():
    found, notes = model(), []
    first, last = (end.weight.detach().clone() for end in (found.model.embed_tokens, found.lm_head))
    fix_untrained_rows(found, [7, 2], notes)
    others = [0, 1, 3, 4, 5, 6]
    new = found.model.embed_tokens.weight
    for number in (7, 2):
        torch.testing.assert_close(new[number], first[others].mean(0))
        torch.testing.assert_close(found.lm_head.weight[number], last[[*others, 8, 9]].mean(0))
    assert torch.equal(new[others], first[others])
    assert torch.equal(new[8:], first[8:])
    assert notes == ["the embeddings of 2 tokens begin as the mean of the trained ones (of these, 2, 7 looked trained)"]


def test_a_tied_weight_is_changed_once():
    found = model(tied=True)
    old = found.model.embed_tokens.weight.detach().clone()
    fix_untrained_rows(found, [7], [])
    assert found.lm_head.weight is found.model.embed_tokens.weight
    torch.testing.assert_close(found.lm_head.weight[7], old[:7].mean(0))


def test_ids_without_a_row_are_refused():
    with pytest.raises(NewtError, match="fix_untrained_tokens: there is no token 10: embed_tokens has 10 rows"):
        fix_untrained_rows(model(), [10], [])


def test_an_adapter_must_save_the_rows(model_dir, tmp_path):
    with pytest.raises(NewtError, match=r"row of token 605 in embed_tokens would not be saved .*trainable_token"):
        load(model_dir, **LORA, fix_untrained_tokens=[605])
    for keys in ({"peft_trainable_token_indices": [605]}, {"lora_modules_to_save": ["embed_tokens", "lm_head"]}):
        found = load(model_dir, **LORA, fix_untrained_tokens=605, **keys)
        save_final(found.model, found.tokenizer, tmp_path, make_config(base_model=str(model_dir), **LORA, **keys))
        from peft import PeftModel

        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), tmp_path)
        ids = torch.tensor([[5, 605, 7]])
        found.model.float()
        assert torch.allclose(logits(plain.float(), ids), logits(found.model, ids), atol=1e-2)
    assert load(model_dir, fix_untrained_tokens=605).trainable
