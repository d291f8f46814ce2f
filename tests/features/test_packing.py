"""The keys of sample packing."""

import numpy as np
import pytest
from tests.helpers import complaints, make_run, messages

from newt.extend import Facts


def test_evaluation_is_packed_as_training_unless_said():
    assert make_run(sample_packing=True).data_plan().pack_eval
    assert not make_run(sample_packing=True, eval_sample_packing=False).data_plan().pack_eval
    assert not make_run(sample_packing=False).data_plan().pack
    only_eval = make_run(eval_sample_packing=True).data_plan()
    assert only_eval.pack_eval
    assert not only_eval.pack


def test_the_packer_respects_length_and_number():
    plan = make_run(sample_packing=True, sequence_len=100, sample_packing_bin_size=2).data_plan()
    order, offsets = plan.pack.get()(np.full(10, 20, dtype=np.int32), 0)
    assert sorted(order) == list(range(10))
    assert np.diff(offsets).max() == 2


def test_sequential_keeps_the_order():
    plan = make_run(sample_packing=True, sequence_len=50, sample_packing_sequentially=True).data_plan()
    order, offsets = plan.pack.get()(np.array([30, 30, 20], dtype=np.int32), 0)
    assert order.tolist() == [0, 1, 2]
    assert offsets.tolist() == [0, 1, 3]


def test_inert_and_superfluous_keys_are_named():
    assert messages(sample_packing_bin_size=3) == [
        "sample_packing_bin_size: has no effect: sample_packing is not on. Remove it, or switch it on."
    ]
    assert "sample_packing_group_size: is not needed" in messages(sample_packing=True, sample_packing_group_size=9)[0]


def test_packing_is_refused_where_isolation_is_not_proved():
    facts = Facts(known=True, model={"model_type": "mamba"})
    assert any(
        "packed samples do not stay apart in mamba models: the state" in m for m in messages(facts, sample_packing=True)
    )
    llama = Facts(known=True, model={"model_type": "llama"})
    assert messages(llama, sample_packing=True) == []


FLASH = {"attn_implementation": "flash_attention_2"}


@pytest.mark.parametrize(
    ("keys", "long"),
    [
        ({}, False),
        ({"attn_implementation": "sdpa"}, False),
        ({"attn_implementation": "eager"}, False),
        ({"eager_attention": True}, False),
        (FLASH, True),
        ({"flash_attention": True}, True),
        ({"attn_implementation": "flex_attention"}, True),
        ({"attn_implementation": "flex_attention", "multipack_real_batches": True}, False),
        ({"attn_implementation": "sdpa", "multipack_real_batches": False}, True),
    ],
)
def test_the_attention_decides_the_shape_unless_said(keys, long):
    plan = make_run(sample_packing=True, sequence_len=100, micro_batch_size=3, eval_batch_size=2, **keys).data_plan()
    assert plan.long_rows.get() is long
    assert plan.pack.get().capacity == (300 if long else 100)
    assert plan.pack_eval.get().capacity == (200 if long else 100)


def test_flash_attention_cannot_have_several_packed_rows():
    keys = {"sample_packing": True, "multipack_real_batches": True, **FLASH}
    refusal = "multipack_real_batches: flash_attention_2 tells the samples apart only when a batch is one row."
    assert any(refusal in text for text in messages(micro_batch_size=2, **keys))
    assert any(refusal in text for text in messages(eval_batch_size=2, **keys))
    assert not any(refusal in text for text in messages(**keys))


def test_dense_attention_pays_for_a_long_row():
    found = messages(sample_packing=True, multipack_real_batches=False, micro_batch_size=2)
    assert any("multipack_real_batches: sdpa computes all pairs of tokens" in text for text in found)


def test_the_number_of_rows_is_limited_in_sequence_too():
    keys = {"sample_packing_sequentially": True, "sample_packing_bin_size": 2}
    plan = make_run(sample_packing=True, sequence_len=100, **keys).data_plan()
    assert plan.pack.get()(np.full(5, 10, np.int32), 0)[1].tolist() == [0, 2, 4, 5]


def test_rows_in_sequence_are_shuffled_unless_a_curriculum_is_asked_for():
    keys = {"sample_packing": True, "sample_packing_sequentially": True}
    assert any("sample_packing_sequentially: keeps neighbours" in text for text in messages(**keys))
    assert messages(curriculum_sampling=True, **keys) == []


@pytest.mark.parametrize(
    ("capability", "keys", "warned"),
    [
        ((8, 0), {"attn_implementation": "sdpa"}, True),
        ((8, 0), {"sdp_attention": True}, True),
        ((9, 0), {"attn_implementation": "sdpa"}, False),
        ((8, 0), {"attn_implementation": "sdpa", "bf16": False, "float32": True}, False),
        ((8, 0), {}, False),
    ],
)
def test_the_first_losses_deserve_a_look_with_sdpa_on_older_gpus(capability, keys, warned):
    facts = Facts(known=True, gpus=1, capability=capability)
    found = [text for text in complaints(facts, sample_packing=True, **keys) if "losses of 0.0 were reported" in text]
    assert len(found) == warned
