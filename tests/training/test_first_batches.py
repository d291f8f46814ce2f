from types import SimpleNamespace

import numpy as np
import torch
from tests.helpers import make_run

from newt.slots import Slot
from newt.training.first_batches import first_batches

TOKENIZER = SimpleNamespace(pad_token_id=0, eos_token_id=2)


class Rows:
    lengths = np.array([3, 9, 4, 5, 2, 30, 6], dtype=np.int32)

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        ids = np.arange(self.lengths[index], dtype=np.int32) + 10 * index
        return {"input_ids": ids, "labels": np.where(ids % 2, ids, -100).astype(np.int32)}


def made(**keys):
    run = make_run(micro_batch_size=2, sequence_len=8, **keys)
    return first_batches(run.train_plan(), run.data_plan(), TOKENIZER, Rows())


def rows_of(batches):
    return [
        batch["input_ids"][row, : int(mask.sum())].tolist()
        for batch in batches
        for row, mask in enumerate(batch["attention_mask"])
    ]


def test_every_row_once_and_no_batch_larger_than_a_micro_batch():
    batches = made().rows(100)
    assert sorted(map(len, rows_of(batches))) == sorted(Rows.lengths)
    for batch in batches:
        assert batch["input_ids"].numel() <= 16 or len(batch["input_ids"]) == 1
        assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert len(batches) < 7, "short rows stand together"


def test_the_same_rows_each_time_others_with_another_seed():
    assert rows_of(made().rows(3)) == rows_of(made().rows(3)) == rows_of(made().rows(7))[:3]
    assert rows_of(made().rows(7)) != rows_of(made(seed=7).rows(7))


def test_packing_does_not_change_them():
    assert rows_of(made(sample_packing=True).rows(7)) == rows_of(made().rows(7))


def test_the_loss_is_the_mean_of_the_trained_tokens_in_the_runs_number_format():
    class Model(torch.nn.Module):
        def forward(self, input_ids, attention_mask, use_cache):
            self.seen = torch.is_autocast_enabled("cpu")
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 100))

    for keys, mixed in (({}, False), ({"bf16": True}, True)):
        run = make_run(micro_batch_size=2, sequence_len=8, **keys)
        plan = run.train_plan()
        plan.cross_entropy = Slot("next-token loss")
        data = first_batches(plan, run.data_plan(), TOKENIZER, Rows())
        model = Model()
        assert float(data.loss(model, data.rows(4)[0])) == torch.log(torch.tensor(100.0))
        assert model.seen is mixed
