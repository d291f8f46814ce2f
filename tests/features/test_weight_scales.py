import pytest
import torch
from tests.helpers import make_run, messages
from tests.models.tiny import load

from newt.config.load import load as read
from newt.registry import sections
from newt.run import EntryType

RULE = {"name_pattern": r"up_proj\.weight", "threshold": 2.0}
LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


def test_a_good_rule_has_no_problems():
    assert messages(normalize_weight_scales=[RULE]) == []
    assert messages(**LORA, normalize_weight_scales=[{**RULE, "dry_run": True}]) == []
    assert make_run(normalize_weight_scales=[RULE]).load_plan().prepare_base


@pytest.mark.parametrize(
    ("rules", "further", "expected"),
    [
        (
            [RULE, {"name_pattern": "((", "threshold": 2}],
            {},
            "normalize_weight_scales.1.name_pattern: '((' is not a regular expression: "
            "missing ), unterminated subpattern at position 1.",
        ),
        (
            [RULE],
            LORA,
            "normalize_weight_scales.0: an adapter would fit the rescaled weights only, and the base on disk keeps its "
            "own. Set dry_run: true, or train in full.",
        ),
    ],
)
def test_problems(rules, further, expected):
    assert messages(normalize_weight_scales=rules, **further) == [expected]


@pytest.mark.parametrize("threshold", [1, 0.5, "much"])
def test_a_threshold_that_is_none_has_a_place(tmp_path, threshold):
    path = tmp_path / "config.yml"
    path.write_text(f"normalize_weight_scales:\n  - name_pattern: up\n    threshold: {threshold}\n")
    problems = [str(problem) for problem in read(path, (), sections=sections(), entry_type=EntryType()).problems]
    assert any(f"{path}:3: normalize_weight_scales.0.threshold: must be" in text for text in problems)


def test_a_loaded_model_is_rescaled_and_it_is_said(model_dir, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_dir)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(8)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    rule = {"name_pattern": "up_proj", "threshold": 1.5}
    loaded = load(tmp_path, normalize_weight_scales=[rule])
    said = [note for note in loaded.notes if "up_proj" in note]
    assert "1 rescaled" in said[0]
    assert "model.layers.1.mlp.up_proj.weight" in said[1]
    new = float(loaded.model.model.layers[1].mlp.up_proj.weight.detach().std())
    assert new == pytest.approx((0.02 + 0.16) / 2, rel=0.05), "the median of two is their mean"
    same = load(tmp_path, normalize_weight_scales=[{**rule, "dry_run": True}])
    assert torch.equal(same.model.model.layers[1].mlp.up_proj.weight, model.model.layers[1].mlp.up_proj.weight)
