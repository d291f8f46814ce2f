"""Generation: the same tokens as transformers, piece by piece, and reproducible."""

import pytest
import torch
from tests.helpers import make_config, make_run
from tests.models.tiny import LORA, load, logits, stir
from tiny_models import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from newt.models.adapters import in_float32
from newt.models.generate import _Chooser, complete, generate_ids, load_for_inference, stream
from newt.models.save import save_final
from newt.models.tokenizer import load_tokenizer
from newt.support.errors import NewtError

PROMPT = [5, 17, 300, 41]


@pytest.fixture(scope="module")
def model(model_dir):
    found = AutoModelForCausalLM.from_pretrained(model_dir)
    stir(found, size=0.3)  # the untouched one repeats a single token
    return found.eval()


@pytest.fixture(scope="module")
def tokenizer(model_dir):
    return AutoTokenizer.from_pretrained(model_dir)


def reference(model, **kwargs):
    ids = torch.tensor([PROMPT])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **kwargs)
    return [token for token in found[0, len(PROMPT) :].tolist() if token != 2]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_equals_transformers(model, penalty):
    got = list(generate_ids(model, PROMPT, max_new_tokens=30, repetition_penalty=penalty))
    assert got == reference(model, max_new_tokens=30, repetition_penalty=penalty)
    assert len(set(got)) > 3


@pytest.mark.parametrize("kind", ["mamba", "recurrent_gemma"])
def test_a_model_without_a_usual_cache_answers_as_it_would_without_one(kind):
    model = tiny_model(kind)
    row = list(PROMPT[:2])
    for _ in range(6):
        with torch.no_grad():
            row.append(int(model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].argmax()))
    found = list(generate_ids(model, PROMPT[:2], max_new_tokens=6, temperature=0.0))
    assert found == row[2 : 2 + len(found)]
    assert len(found) > 1


def test_a_stop_token_ends_the_answer(model):
    whole = list(generate_ids(model, PROMPT, max_new_tokens=10))
    model.generation_config.eos_token_id = [2, whole[4]]
    try:
        assert list(generate_ids(model, PROMPT, max_new_tokens=10)) == whole[: whole.index(whole[4])]
    finally:
        model.generation_config.eos_token_id = 2


def test_sampling_follows_the_seed(model):
    def draw(seed):
        return list(generate_ids(model, PROMPT, max_new_tokens=20, temperature=1.0, seed=seed))

    assert draw(1) == draw(1) != draw(2)


def frequencies(logits_, count=4000, **sampling):
    random = torch.Generator().manual_seed(0)
    chooser = _Chooser([], random, temperature=1.0, **sampling)
    drawn = torch.tensor([chooser(logits_) for _ in range(count)])
    return torch.bincount(drawn, minlength=len(logits_)) / count


def test_top_k_and_top_p_keep_the_right_tokens():
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    assert torch.allclose(frequencies(shares.log()), shares, atol=0.03)
    assert torch.allclose(frequencies(shares.log(), top_k=2), torch.tensor([0.625, 0.375, 0, 0]), atol=0.03)
    assert torch.allclose(frequencies(shares.log(), top_p=0.7), torch.tensor([0.625, 0.375, 0, 0]), atol=0.03)
    assert frequencies(shares.log(), top_p=0.01)[0] == 1


def test_pieces_join_to_the_whole_text_without_broken_characters(tokenizer):
    text = "naïve 🙂 你好"
    ids = tokenizer(text)["input_ids"]

    class Scripted(torch.nn.Module):
        """Says the given ids, then the stop token."""

        def __init__(self):
            super().__init__()
            self.script = torch.nn.Parameter(torch.zeros(1))
            self.generation_config = type("Config", (), {"eos_token_id": 2})
            self.said = 0

        def forward(self, input_ids, attention_mask, use_cache, past_key_values=None):
            assert attention_mask.shape[1] == 1 + self.said
            scores = torch.zeros(1, input_ids.shape[1], 608)
            scores[0, -1, (*ids, 2)[self.said]] = 1
            self.said += 1
            return type("Output", (), {"logits": scores, "past_key_values": None})

    pieces = list(stream(Scripted(), tokenizer, [5], temperature=0.0))
    assert "".join(pieces) == text
    assert len(pieces) > 3
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_model_in_training_with_two_number_types_can_answer(model_dir, tokenizer):
    found = load(model_dir, **LORA, bfloat16=True, lora_modules_to_save=["embed_tokens", "lm_head"]).model.eval()
    in_float32(found)
    assert found.get_input_embeddings().weight.dtype == torch.float32
    assert isinstance(complete(found, tokenizer, PROMPT, max_new_tokens=3), str)


def test_an_empty_prompt_is_an_error(model, tokenizer):
    with pytest.raises(NewtError, match="The prompt is empty"):
        complete(model, tokenizer, [])


def test_inference_loads_base_or_trained_model(model_dir, tmp_path):
    found = load(model_dir)
    stir(found.model)
    save_final(found.model, found.tokenizer, tmp_path, make_config(base_model=str(model_dir)))
    run = make_run(base_model=str(model_dir))
    tokenizer = load_tokenizer(run.cfg)
    base = load_for_inference(run.load_plan(), tokenizer)
    trained = load_for_inference(run.load_plan(), tokenizer, tmp_path)
    assert torch.equal(logits(trained), logits(found.model))
    assert not torch.equal(logits(base), logits(trained))
    assert not trained.training
    assert not any(p.requires_grad for p in trained.parameters())
