"""The table of proofs: right for a selection here, for all of it with ``scripts/prove_families.py --check``."""

from importlib.metadata import version

import pytest
from measure_isolation import SEEN, TOLERANCE, packed_difference
from prove_families import isolation_proof
from tiny_models import model_types, tiny_config, tiny_model

from newt.models.isolation import OLDER, isolation, lacks, proofs, proved_with
from newt.rows import Isolation

SELECTION = (
    "llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "gemma2", "gemma3", "gemma4", "deepseek_v3", "olmo3",
    "gpt_oss", "falcon", "opt", "afmoe", "granitemoehybrid", "lfm2", "qwen3_5", "jamba", "bert", "bart",
)  # fmt: skip


@pytest.mark.parametrize("kind", SELECTION)
def test_the_table_is_right(kind):
    found, entry = isolation_proof(kind), proofs()[kind]
    assert found["packing"] == entry.packing
    if version("transformers") != proved_with():
        assert set(entry.attention) <= set(found.get("attention", ()))
    elif entry.packing:
        assert (tuple(found["attention"]), found["varlen"]) == (entry.attention, entry.varlen)
        assert found.get("kinds", {}) == entry.kinds
    else:
        assert found["reason"] == entry.reason


@pytest.mark.parametrize(
    ("kind", "attention"), [("llama", "sdpa"), ("gpt_oss", "eager"), ("afmoe", "sdpa"), ("opt", "eager")]
)
def test_what_a_run_gets_keeps_samples_apart(kind, attention):
    """From config.json to the inputs of the model, and the test can fail: without it samples see each other."""
    apart = isolation(tiny_config(kind).to_dict(), attention)
    assert isinstance(apart, Isolation)
    model = tiny_model(kind, attention)
    assert packed_difference(model, apart) < TOLERANCE
    assert packed_difference(model, None) > SEEN
    if apart.by == "mask":
        assert packed_difference(model, Isolation()) > SEEN


def test_masks_are_cut_to_the_windows_of_the_layers():
    model = {"model_type": "gpt_oss", "sliding_window": 128}
    expected = Isolation("mask", {"sliding_attention": 128, "full_attention": None}, additive=True)
    assert isolation(model, None) == expected


def test_a_hybrid_without_recurrent_layers_is_packed():
    model = {"model_type": "granitemoehybrid"}
    assert "GraniteMoeHybridMambaLayer" in str(isolation(model, None))
    assert "GraniteMoeHybridMambaLayer" in str(isolation({**model, "layer_types": ["mamba", "attention"]}, None))
    assert isolation({**model, "layer_types": ["attention", "attention"]}, "sdpa") == Isolation("mask")


@pytest.mark.parametrize(
    ("kind", "attention", "text"),
    [
        ("unheard_of", None, "it is not proved that packed samples stay apart in unheard_of models."),
        ("jamba", None, "packed samples do not stay apart in jamba models: the state of its JambaMamba"),
        ("bart", None, "takes no position_ids"),
        ("bert", None, "tokens see those after them"),
        ("falcon", "flash_attention_2", "falcon models do not tell flash_attention_2 where a packed sample begins."),
        ("gpt_oss", "flex_attention", "proved with eager attention only"),
    ],
)
def test_refusals(kind, attention, text):
    assert text in str(isolation({"model_type": kind}, attention))


def test_what_is_proved_for_flash_attention():
    assert isolation({"model_type": "gpt_oss"}, "flash_attention_3") == Isolation()
    assert isolation({"model_type": "llama"}, "kernels-community/flash-attn3") == Isolation()


def test_what_architectures_lack():
    assert lacks("gpt_oss", "sdpa")
    assert not lacks("llama", "sdpa")
    assert not lacks("unheard_of", "sdpa")
    assert not lacks(None, "sdpa")


def test_every_architecture_of_the_newest_transformers_is_in_the_table():
    """The table is of the newest version that is supported; an older one knows fewer architectures."""
    assert set(model_types()) <= set(proofs())


@pytest.mark.slow
def test_the_whole_table_is_right():
    same = version("transformers") == proved_with()
    for kind in model_types():
        found, entry = isolation_proof(kind), proofs()[kind]
        if same or (entry.packing and found["packing"] and kind not in OLDER):
            assert found["packing"] == entry.packing, kind
        elif entry.packing:
            assert found["packing"] in (entry.packing, None)
            left = found.get("attention", ()) if found["packing"] else ()
            assert tuple(left) == OLDER.get(kind, ()) or "no tiny model" in found["reason"], kind


@pytest.mark.parametrize(
    ("kind", "attention", "release", "apart"),
    [
        ("llama4", "sdpa", "5.17.0", False),
        ("llama4", "eager", "5.22.1", False),
        ("llama4", "sdpa", "5.23.0", True),
        ("llama4", "sdpa", "5.101.0", True),
        ("doge", "eager", "5.17.0", True),
        ("doge", "sdpa", "5.17.0", False),
        ("llama", "sdpa", "5.17.0", True),
    ],
)
def test_older_releases_that_mix_samples_are_refused(kind, attention, release, apart):
    found = isolation({"model_type": kind}, attention, release)
    assert isinstance(found, Isolation) is apart
    if not apart:
        why = f"packed samples do not stay apart in {kind} models of transformers {release}"
        assert found == f"{why}: get {proved_with()}."
