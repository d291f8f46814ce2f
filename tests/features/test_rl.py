"""What all rl methods have in common."""

import pytest
from tests.helpers import messages

from newt.extend import Facts

PAIRS = [{"path": "a/b", "type": "chatml.intel"}]
GPUS = Facts(known=True, gpus=2)
QLORA = {"adapter": "qlora", "load_in_4bit": True, "lora_r": 8, "lora_alpha": 8, "lora_target_linear": True}
CHECKPOINTED = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}


def complaints(facts=Facts(), **keys):  # noqa: B008
    """What is wrong, without what is only not supported yet."""
    found = messages(facts, **{"rl": "dpo", "datasets": PAIRS, **keys})
    return [message for message in found if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"rl_beta": 0.1, "trl": {"beta": 0.2}}, "rl_beta: differs from trl.beta (0.2)."),
        ({"sample_packing": True}, "sample_packing: cannot be used with rl"),
        ({"eval_sample_packing": True}, "eval_sample_packing: cannot be used with rl"),
        ({"max_prompt_len": 512, "sequence_len": 512}, "max_prompt_len: leaves no room for an answer"),
        ({"vllm": {"port": 8001}}, "vllm: has no effect: rl: dpo samples no answers."),
        ({"trl": {"num_generations": 4}}, "trl.num_generations: has no effect: rl: dpo samples no answers."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"rl_beta": 0.1, "trl": {"beta": 0.1}},
        {"max_prompt_len": 100, "sequence_len": 512},
        {"trl": {"beta": 0.1, "use_vllm": False, "temperature": None}},
        {"sample_packing": False},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_reentrant_checkpointing_with_a_quantized_base_on_several_gpus():
    text = "gradient_checkpointing_kwargs: use_reentrant: true cannot be used with rl, QLoRA and several GPUs."
    assert any(text in message for message in messages(GPUS, rl="dpo", datasets=PAIRS, **QLORA, **CHECKPOINTED))
    one = Facts(known=True, gpus=1)
    assert not any(text in message for message in messages(one, rl="dpo", datasets=PAIRS, **QLORA, **CHECKPOINTED))
    assert not any(text in message for message in messages(rl="dpo", datasets=PAIRS, **QLORA, **CHECKPOINTED))


def test_the_keys_need_a_method():
    assert messages(rl_beta=0.1) == ["rl_beta: has no effect: rl is not set. Remove it, or switch it on."]
    assert messages(rl_beta=None, trl=None) == []


def test_one_objective_only():
    assert "reward_model: cannot be used with rl. Keep one." in complaints(reward_model=True)
