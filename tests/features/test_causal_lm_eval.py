"""Evaluation of generated answers."""

import pytest
from tests.helpers import complaints, make_run, messages, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"do_causal_lm_eval": True, "val_set_size": 0.1, "sample_packing": True},
            "needs rows that are not packed. Set eval_sample_packing: false.",
        ),
        ({"do_causal_lm_eval": True}, "there is nothing to evaluate"),
        ({"eval_causal_lm_metrics": ["chrf"]}, "has no effect: do_causal_lm_eval is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"do_causal_lm_eval": True, "val_set_size": 0.1, "sample_packing": True, "eval_sample_packing": False},
        {"do_causal_lm_eval": True, "val_set_size": 0.1, "eval_causal_lm_metrics": ["chrf", "perplexity"]},
        {"do_causal_lm_eval": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_comet_is_refused_with_the_reason():
    """The package pins transformers below 5, so no environment can have both."""
    keys = {"do_causal_lm_eval": True, "val_set_size": 0.1, "eval_causal_lm_metrics": ["comet", "chrf"]}
    assert unsupported(**keys) == {"eval_causal_lm_metrics"}
    (text,) = messages(**keys)
    assert "its package unbabel-comet needs transformers below 5. Use sacrebleu, chrf, ter or perplexity" in text


def test_scores_need_a_package_and_perplexity_does_not():
    keys = {"do_causal_lm_eval": True, "val_set_size": 0.1}
    assert any("pip install 'newt-tune[eval]'" in text for text in complaints(Facts(known=True), **keys))
    assert complaints(Facts(known=True), **keys, eval_causal_lm_metrics=["perplexity"]) == []


def test_what_the_evaluation_gets(monkeypatch):
    from newt.training import causal_lm

    made = []
    monkeypatch.setattr(causal_lm, "CausalLm", lambda *found: made.append(found) or (lambda trainer: {"chrf": 1.0}))
    keys = {"do_causal_lm_eval": True, "val_set_size": 0.1, "sequence_len": 64, "eval_max_new_tokens": 9}
    (evaluate,) = make_run(**keys).train_plan().evaluations
    assert evaluate(None) == evaluate(None) == {"chrf": 1.0}
    assert made == [(("sacrebleu", "ter", "chrf"), 9, 64)]
