"""The keys of accelerator_config: what has an effect, what has none, what cannot be."""

import pytest
from tests.helpers import make_config, messages

from newt.config.core import Loader
from newt.extend import TrainPlan
from newt.training.arguments import training_arguments
from newt.training.cadence import Steps


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"split_batches": True}, "split_batches: cannot be used: micro_batch_size is for each process."),
        ({"use_configured_state": True}, "use_configured_state: cannot be used: there is no state"),
        ({"dispatch_batches": True}, "dispatch_batches: has no effect: every process reads its own batches"),
        ({"even_batches": False}, "even_batches: has no effect: all processes do the same number of steps"),
        ({"use_seedable_sampler": False}, "use_seedable_sampler: has no effect: the order always depends on the seed"),
        (
            {"gradient_accumulation_kwargs": {"num_steps": 4}},
            "gradient_accumulation_kwargs: num_steps stands elsewhere. Set gradient_accumulation_steps.",
        ),
        (
            {"gradient_accumulation_kwargs": {"adjust_scheduler": False}},
            "gradient_accumulation_kwargs: adjust_scheduler cannot be used. Only sync_each_batch can.",
        ),
    ],
)
def test_complaints(keys, text):
    (found,) = messages(accelerator_config=keys)
    assert found.startswith(f"accelerator_config.{text}")


def test_neutral_values_are_accepted():
    neutral = {"split_batches": False, "dispatch_batches": False, "even_batches": True, "use_seedable_sampler": True}
    assert messages(accelerator_config={**neutral, "use_configured_state": False, "non_blocking": False}) == []


def test_what_has_an_effect_reaches_the_trainer(tmp_path):
    keys = {"non_blocking": True, "gradient_accumulation_kwargs": {"sync_each_batch": True}}
    assert messages(accelerator_config=keys) == []
    cfg = make_config(accelerator_config=keys, output_dir=str(tmp_path))
    assert cfg[Loader].accelerator_config is not None
    told = training_arguments(TrainPlan(cfg), Steps(10, 1, 1.0, None), False).accelerator_config
    assert told.non_blocking is True
    assert told.gradient_accumulation_kwargs == {"sync_each_batch": True}
    assert told.split_batches is False
