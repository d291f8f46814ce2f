"""The keys of sample packing."""

import numpy as np
from tests.helpers import make_run, messages

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
    assert any("not proved that packed samples stay apart in mamba" in m for m in messages(facts, sample_packing=True))
    llama = Facts(known=True, model={"model_type": "llama"})
    assert messages(llama, sample_packing=True) == []
