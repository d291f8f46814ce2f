"""From the data plan to loaders: packer, collator and sampler for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from newt.config.core import Batch
from newt.data.collate import PackedCollator, PaddedCollator
from newt.extend import DataPlan
from newt.training.batches import ALONE, BatchSampler, Collate, Place, TokenData, make_loader


class Inputs:
    """Makes the samplers and loaders of a run."""

    def __init__(
        self, plan: DataPlan, tokenizer: Any, seed: int, make_sampler: Callable[..., BatchSampler] | None = None
    ) -> None:
        """Keep the plan.

        Args:
            plan: gives packers and collator.
            tokenizer: gives the padding token.
            seed: of the order of batches.
            make_sampler: takes the arguments of :class:`BatchSampler`; default: that class.
        """
        self.plan, self.tokenizer, self.seed = plan, tokenizer, seed
        self.make_sampler = make_sampler or BatchSampler
        self.batch = plan.cfg[Batch]

    def train_sampler(self, data: TokenData, *, drop_last: bool, place: Place) -> BatchSampler:
        """Shuffled micro-batches of one rank."""
        return self.make_sampler(
            data.lengths,
            self.batch.micro,
            seed=self.seed,
            packer=self.plan.pack.get(),
            drop_last=drop_last,
            place=place,
        )

    def train_loader(self, data: TokenData, sampler: BatchSampler, **options: Any) -> DataLoader[Any]:
        """Loader of the sampler's batches."""
        collate = self._collate(packed=bool(self.plan.pack), length=self.batch.sequence_len)
        return make_loader(data, sampler, collate, **options)

    def eval_loader(self, data: TokenData, *, place: Place = ALONE, **options: Any) -> DataLoader[Any]:
        """Loader of all rows in their order, each once over all ranks."""
        packer = self.plan.pack_eval.get()
        sampler = BatchSampler(
            data.lengths,
            self.batch.eval_micro,
            seed=self.seed,
            packer=packer,
            shuffle=False,
            place=place,
        )
        collate = self._collate(packed=packer is not None, length=self.batch.eval_length)
        return make_loader(data, sampler, collate, **options)

    def _collate(self, *, packed: bool, length: int) -> Collate:
        make = self.plan.collate.get()
        if make is not None:
            return Collate(make(self.tokenizer), packed)
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        multiple = self.batch.pad_to_multiple_of
        fixed = length if self.batch.pad_to_sequence_len else None
        if packed:
            return Collate(PackedCollator(pad, fixed, multiple), packed)
        return Collate(PaddedCollator(pad, multiple, fixed), packed)
