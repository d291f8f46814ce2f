"""NEFTune."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(("keys", "alpha"), [({}, None), ({"neftune_noise_alpha": 5}, 5)])
def test_what_the_trainer_gets(keys, alpha):
    assert complaints(**keys) == []
    assert make_run(**keys).train_plan().args.get("neftune_noise_alpha") == alpha
