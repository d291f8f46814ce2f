"""LoRA+."""

import pytest
from tests.helpers import complaints

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({**LORA, "loraplus_lr_ratio": 16}, []),
        ({"loraplus_lr_ratio": 16}, ["loraplus_lr_ratio: needs an adapter. Set adapter: lora."]),
        ({**LORA, "loraplus_lr_embedding": 1e-6}, []),
        ({**LORA, "loraplus_lr_embedding": 1e-5}, ["loraplus_lr_embedding: has no effect: loraplus_lr_ratio is not"]),
        (
            {**LORA, "loraplus_lr_ratio": 16, "lr_groups": [{"name": "a", "modules": ["b"], "lr": 1}]},
            ["lr_groups: cannot be used with loraplus_lr_ratio. Remove one."],
        ),
    ],
)
def test_rules(keys, expected):
    found = complaints(**keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found
