"""Which parameters are trained."""

import pytest
from tests.helpers import complaints, make_run, messages

from newt.features.freeze import split, what_is_wrong

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^lm_head.weight$", ("^lm_head.weight$", None)),
        ("model.layers.2[0-9]+.mlp", ("model.layers.2[0-9]+.mlp", None)),
        ("embed$[:32000]", ("embed$", (0, 32000))),
        ("embed[32000:]", ("embed", (32000, None))),
        ("embed[3:5]", ("embed", (3, 5))),
        ("embed[7]", ("embed", (7, 8))),
        ("layers.[0-9]", ("layers.[0-9]", None)),
    ],
)
def test_an_expression_may_end_with_rows(pattern, expected):
    assert split(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("w[5:5]", "the range of rows in 'w[5:5]' is empty."),
        ("w[5:2]", "the range of rows in 'w[5:2]' is empty."),
        ("w[-5:]", "rows are counted from 0, not from the end as in 'w[-5:]'."),
        ("w[-5]", "rows are counted from 0, not from the end as in 'w[-5]'."),
        ("w[2:-1]", "rows are counted from 0, not from the end as in 'w[2:-1]'."),
        ("w(", "'w(' is not a regular expression: missing ), unterminated subpattern at position 1."),
        (r"^model\.language_model\..*", ""),
        ("^model.language_model.*", ""),
    ],
)
def test_what_is_wrong_is_said(pattern, expected):
    assert what_is_wrong(pattern) == expected
    found = messages(unfrozen_parameters=["ok", pattern])
    assert found == ([f"unfrozen_parameters.1: {expected}"] if expected else [])


def test_conflicts():
    adapter = "unfrozen_parameters: would freeze the adapter."
    assert [text.startswith(adapter) for text in messages(**LORA, unfrozen_parameters=["lm_head"])] == [True]
    assert messages(unfrozen_parameters=["w"], weight_decay=0.1) == []
    assert messages(**LORA, freeze_mm_modules=True) == []


def test_rows_need_whole_parameters_and_an_optimizer_without_a_copy_of_them():
    rows = {"unfrozen_parameters": ["w[:5]"], "weight_decay": 0.1}
    assert messages(**rows) == messages(**rows, tensor_parallel_size=1) == []
    free = "unfrozen_parameters: schedule_free_adamw with weight_decay also shrinks the rows that are not named."
    assert f"{free} Set weight_decay: 0." in messages(**rows, optimizer="schedule_free_adamw")
    assert not any(free in text for text in messages(unfrozen_parameters=["w[:5]"], optimizer="schedule_free_adamw"))
    cut = (
        "unfrozen_parameters: rows of a parameter cannot be chosen with fsdp_config, which cuts parameters into pieces."
    )
    assert any(text.startswith(cut) for text in complaints(**rows, fsdp_config={"reshard_after_forward": True}))


def test_rows_that_are_not_named_are_put_back():
    names = [type(make()).__name__ for make in make_run(unfrozen_parameters=["a", "w[:5]"]).train_plan().callbacks]
    assert names == ["FrozenRows"]
    assert make_run(unfrozen_parameters=["w"]).train_plan().callbacks == []


def test_it_joins_the_plan_only_when_asked():
    assert len(make_run(unfrozen_parameters=["w"]).load_plan().prepare) == 1
    assert len(make_run(unfrozen_parameters=[], freeze_mm_modules=False).load_plan().prepare) == 0
    assert messages(unfrozen_parameters=[], freeze_mm_modules=False) == []
