"""Tiled MLPs."""

import pytest
from tests.helpers import complaints, make_run, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {
                "tiled_mlp": True,
                "tiled_mlp_use_original_mlp": False,
                "plugins": ["LigerPlugin"],
                "liger_glu_activation": True,
            },
            "tiled_mlp: cannot be used with liger_glu_activation",
        ),
        ({"tiled_mlp_num_shards": 4}, "has no effect: tiled_mlp is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"tiled_mlp": True, "plugins": ["LigerPlugin"], "liger_glu_activation": True},
        {"tiled_mlp": False, "tiled_mlp_use_original_mlp": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_it_prepares_the_model():
    assert len(make_run(tiled_mlp=True).load_plan().prepare) == len(make_run().load_plan().prepare) + 1
    assert unsupported(tiled_mlp=True, tiled_mlp_use_original_mlp=False) == set()


@pytest.mark.parametrize("own", [True, False])
def test_the_model_gets_its_tiles(own, monkeypatch):
    pytest.importorskip("torch")
    from newt.models import tiled

    seen = []
    monkeypatch.setattr(tiled, "tile_mlps", lambda model, tiles, *, own: seen.append((model, tiles, own)))
    keys = {"tiled_mlp": True, "tiled_mlp_num_shards": 3, "tiled_mlp_use_original_mlp": own}
    make_run(**keys).load_plan().prepare[-1]("the model")
    assert seen == [("the model", 3, own)]
