"""Slots, tables and collisions."""

import pytest

from newt.extend import CollisionError, Facts, Slot, Table


def test_a_slot_gives_back_what_was_filled_or_the_default():
    slot = Slot[int]("loss")
    assert slot.get() is None
    assert slot.get(7) == 7
    assert not slot
    slot.fill(3, by="a")
    assert slot
    assert slot.get(7) == 3


def test_a_second_fill_names_both_parts():
    slot = Slot[int]("loss")
    slot.fill(1, by="liger")
    with pytest.raises(CollisionError, match="liger and chunked both want to be the loss"):
        slot.fill(1, by="chunked")


def test_wrappers_run_in_order_around_value_and_default():
    slot = Slot[str]("loss")
    slot.wrap(lambda inner: f"a({inner})", by="a")
    slot.wrap(lambda inner: f"b({inner})", by="b")
    assert slot.get("default") == "b(a(default))"
    slot.fill("x", by="part")
    assert slot.get() == "b(a(x))"
    assert Slot[str]("empty").get() is None


def test_a_table_accepts_the_same_value_twice_and_refuses_another():
    table = Table("trainer argument")
    table.fill(by="one", bf16=True)
    table.fill(by="two", bf16=True)
    with pytest.raises(CollisionError, match="one sets trainer argument bf16=True, and three sets False"):
        table.fill(by="three", bf16=False)
    assert table == {"bf16": True}


def test_facts_know_the_model_type_only_from_a_config():
    assert Facts().model_type is None
    assert Facts(model={"model_type": "llama"}).model_type == "llama"
