"""Keys that Newt works out for itself."""

import pytest
from tests.helpers import make_run, messages


@pytest.mark.parametrize("key", ["is_llama_derived_model", "is_mistral_derived_model", "total_num_tokens"])
def test_a_key_that_is_not_needed_is_a_warning(key):
    (problem,) = make_run(**{key: True if key.startswith("is") else 5}).problems()
    assert problem.kind == "warning"
    assert str(problem) == f"{key}: is not needed: Newt works it out. Remove it."


@pytest.mark.parametrize(("key", "value"), [("device", "cuda:1"), ("world_size", 8), ("local_rank", 0)])
def test_a_value_that_cannot_be_chosen_is_refused(key, value):
    (message,) = messages(**{key: value})
    assert message.startswith(f"{key}: cannot be chosen here.")


def test_nothing_is_said_of_false():
    assert messages(is_falcon_derived_model=False, is_preprocess=False) == []
