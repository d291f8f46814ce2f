"""With what ``auto_find_batch_size`` may go."""

import pytest
from tests.helpers import complaints, messages

from newt.extend import Facts

ON = {"auto_find_batch_size": True, "micro_batch_size": 4, "gradient_accumulation_steps": 2}
LAYERWISE = {"optimizer": "galore_adamw_layerwise", "optim_target_modules": "all_linear"}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"gradient_accumulation_steps": None, "batch_size": 8}, None),
        ({"sample_packing": True}, None),
        ({"auto_find_batch_size": False, "micro_batch_size": 1}, None),
        ({"micro_batch_size": 1}, "auto_find_batch_size: cannot halve micro_batch_size: 1. Make it a power of 2"),
        ({"micro_batch_size": 3}, "auto_find_batch_size: cannot halve micro_batch_size: 3."),
        ({"dataloader_drop_last": True}, "auto_find_batch_size: cannot be used with dataloader_drop_last"),
        ({"streaming": True, "max_steps": 5}, "auto_find_batch_size: cannot be used with streaming"),
        (LAYERWISE, "auto_find_batch_size: cannot be used with galore_adamw_layerwise"),
        ({"optimizer_in_bwd": True}, "optimizer_in_bwd: cannot be used with auto_find_batch_size"),
        ({"rl": "kto"}, "auto_find_batch_size: cannot be used with rl: kto: its loss depends on the micro-batch."),
    ],
)
def test_what_it_cannot_go_with_is_refused(keys, expected):
    if "rl" in keys:
        keys = {**keys, "datasets": [{"path": "rows.jsonl", "type": "chatml"}]}
    found = [line for line in messages(**{**ON, **keys}) if "auto_find_batch_size" in line]
    assert (not found) if expected is None else any(expected in line for line in found)


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert any("auto_find_batch_size: needs one process" in line for line in complaints(Facts(), **ON))
