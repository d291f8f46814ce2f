"""Rules of the methods that sample answers."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts

PROMPTS = [{"path": "a/b", "type": "rewards.to_prompt"}]


def complaints(facts=Facts(), **keys):  # noqa: B008
    """What is wrong, without what is only not supported yet."""
    found = messages(facts, **{"rl": "grpo", "datasets": PROMPTS, **keys})
    return [message for message in found if "does not support it yet" not in message]


def trl(**keys):
    return {"trl": {"reward_funcs": ["rewards.length"], **keys}}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "trl.reward_funcs: is missing"),
        (trl(reward_weights=[1, 2]), "trl.reward_weights: needs one weight for each of trl.reward_funcs: 1, got 2."),
        (trl(num_generations=1), "trl.num_generations: must be at least 2"),
        (trl(num_generations=4, generation_batch_size=10), "10 answers do not make whole groups of 4. Set 12."),
        (
            {**trl(num_generations=8), "micro_batch_size": 2, "gradient_accumulation_steps": 3},
            "give 6 answers: not whole groups of 8. Set gradient_accumulation_steps: 4.",
        ),
        ({"rl": "gdpo", **trl(multi_objective_aggregation="sum_then_normalize")}, "cannot be used with rl: gdpo."),
        (trl(use_vllm=True), "trl.vllm_mode: is not set: server is used."),
        ({"context_parallel_size": 2, **trl(use_liger_loss=True)}, "trl.use_liger_loss: cannot be used with context"),
        ({"context_parallel_size": 2, **trl(async_prefetch=True)}, "trl.async_prefetch: cannot be used with context"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        trl(),
        trl(reward_weights=[0.5]),
        {"trl": {"reward_funcs": "rewards.length"}},
        {"trl": {"rollout_func": "rollouts.run"}},
        {**trl(num_generations=8), "micro_batch_size": 2, "gradient_accumulation_steps": 4},
        trl(num_generations=4, generation_batch_size=8),
        {"rl": "gdpo", **trl(multi_objective_aggregation="normalize_then_sum")},
        {**trl(use_vllm=True, vllm_mode="server"), "vllm": {"port": 8000}},
        {"context_parallel_size": None, **trl(use_liger_loss=True)},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_every_gpu_needs_a_group():
    eight = Facts(known=True, gpus=8)
    keys = {**trl(num_generations=8), "micro_batch_size": 2, "gradient_accumulation_steps": 4}
    (message,) = [text for text in complaints(eight, **keys) if "num_generations" in text]
    assert "8 answers: not whole groups of 8, one for each of 8 GPUs. Set gradient_accumulation_steps: 32." in message
    keys["gradient_accumulation_steps"] = 32
    assert not [text for text in complaints(eight, **keys) if "num_generations" in text]


def test_the_method_reads_prompts():
    assert make_run(rl="gdpo", datasets=PROMPTS).method.name == "grpo"
