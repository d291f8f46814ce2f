import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts
from newt.features.lora import Lora
from newt.features.lora_init import LoraInit

GOOD = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
KEY = "peft_init_lora_weights"
LOFTQ = {"peft": {"loftq_config": {"loftq_bits": 4}}}


def said(facts=Facts(), **keys):  # noqa: B008
    """Problems of this feature alone."""
    run = make_run(facts, **GOOD | keys)
    return [str(problem) for part in run.parts if isinstance(part, LoraInit) for problem in part.check()]


@pytest.mark.parametrize("init", [True, "gaussian", "pissa", "pissa_niter_4", "olora", "orthogonal", "loftq", "eva"])
def test_every_known_beginning_passes(init):
    assert said(**{KEY: init}) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {KEY: "pizza"},
            f"{KEY}: unknown initialization 'pizza'. "
            "Valid: true, gaussian, pissa, pissa_niter_N, olora, orthogonal, loftq, eva, corda, lora_ga.",
        ),
        ({KEY: "orthogonal", "lora_r": 3}, f"{KEY}: orthogonal needs an even lora_r, not 3."),
        (
            {**LOFTQ, KEY: "gaussian"},
            f"{KEY}: cannot be used with peft.loftq_config, which chooses the beginning itself. Remove one.",
        ),
        ({"peft": {"loftq_config": {"loftq_bits": 2}}}, "peft: loftq_bits: 2 is not offered, as in peft. Use 4 or 8."),
        ({**LOFTQ, "load_in_4bit": True}, "peft: LoftQ quantizes the base itself, not with load_in_4bit. Remove one."),
        (
            {KEY: "loftq", "adapter": "qlora"},
            f"{KEY}: LoftQ quantizes the base itself, not with adapter: qlora. Remove one.",
        ),
        (
            {KEY: "corda", "peft_layer_replication": [[0, 2], [1, 2]]},
            f"{KEY}: corda changes the base's weights, which repeated layers share. Remove one.",
        ),
        (
            {KEY: "eva", "streaming": True, "max_steps": 3},
            f"{KEY}: eva needs prepared rows of supervised fine-tuning, which streaming does not have. "
            "Use pissa, olora or gaussian.",
        ),
        (
            {KEY: "lora_ga", "deepspeed": "zero2.json"},
            f"{KEY}: lora_ga needs whole weights, which deepspeed does not have. Use pissa, olora or gaussian.",
        ),
        (
            {KEY: "eva", "lora_target_parameters": ["mlp.experts.up"]},
            f"{KEY}: eva is for linear layers, and lora_target_parameters are none. Remove one.",
        ),
    ],
)
def test_each_mistake_is_one_problem(keys, expected):
    assert said(**keys) == [expected]


def test_loftq_needs_neither_a_gpu_nor_another_package():
    assert said(Facts(known=True), **LOFTQ) == []
    for keys in (LOFTQ, {KEY: "loftq"}):
        part = next(part for part in make_run(**GOOD, **keys).parts if isinstance(part, Lora))
        assert (part.options()["init_lora_weights"], part.options()["loftq_config"]) == ("loftq", {"loftq_bits": 4})


def test_what_begins_from_data_fills_a_slot_of_its_own():
    assert make_run(**GOOD, **{KEY: "eva"}).load_plan().adapter_of_data.by == "lora"
    assert not make_run(**GOOD, **{KEY: "pissa"}).load_plan().adapter_of_data
    assert not make_run(**GOOD, **{KEY: "eva"}, lora_model_dir="somewhere").load_plan().adapter_of_data


@pytest.mark.parametrize("init", ["corda", "lora_ga", "pissa"])
def test_a_base_in_few_bits_is_not_taken_apart(init):
    assert any(
        f"{init} takes a part out of the base" in text for text in messages(**GOOD, load_in_4bit=True, **{KEY: init})
    )


def test_the_keys_have_no_effect_without_an_adapter():
    assert any("has no effect" in text for text in messages(**{KEY: "eva"}))
