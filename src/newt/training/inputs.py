"""From the data plan to loaders: packer, collator and sampler for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import DataLoader

from newt.config.core import Batch
from newt.data.collate import PackedCollator, PaddedCollator, Side, rounded
from newt.data.cost import Cost, attention_share
from newt.data.join import JoinedCollator
from newt.data.stream import Stream
from newt.extend import CollisionError, DataPlan, Isolation
from newt.training.batches import ALONE, BatchSampler, Collate, Place, TokenData, make_loader
from newt.training.streams import StreamSampler

ROUND = 64
"""Rows are padded to a multiple of this where nothing else is said: matrix products are fastest then."""


class Inputs:
    """Makes the samplers and loaders of a run."""

    def __init__(
        self,
        plan: DataPlan,
        tokenizer: Any,
        seed: int,
        make_sampler: Callable[..., BatchSampler] | None = None,
        model_config: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the plan.

        Args:
            plan: gives packers and collator.
            tokenizer: gives the padding token.
            seed: of the order of batches.
            make_sampler: takes the arguments of :class:`BatchSampler`; default: that class.
            model_config: the model's config.json: tells what a micro-batch costs.
        """
        self.plan, self.tokenizer, self.seed = plan, tokenizer, seed
        self.make_sampler = make_sampler or BatchSampler
        self.batch = plan.cfg[Batch]
        self.share = attention_share(model_config)

    def train_sampler(self, data: TokenData, *, drop_last: bool, place: Place) -> BatchSampler:
        """Shuffled micro-batches of one rank."""
        packed = bool(self.plan.pack)
        return self.make_sampler(
            data.lengths,
            self._samples(self.batch.micro, packed),
            seed=self.seed,
            packer=self.plan.pack.get(),
            drop_last=drop_last,
            place=place._replace(cost=Cost(self.share, documents=self._one_row(packed))),
        )

    def stream_sampler(self, stream: Stream, batches: int, place: Place) -> StreamSampler:
        """Micro-batches of one rank, as many as the run has, of rows that are read while it trains."""
        return StreamSampler(stream, self._samples(self.batch.micro, bool(self.plan.pack)), batches, place)

    def train_loader(self, data: Any, sampler: BatchSampler | StreamSampler, **options: Any) -> DataLoader[Any]:
        """Loader of the sampler's batches."""
        packed, micro, length = bool(self.plan.pack), self.batch.micro, self.batch.sequence_len
        collate = self.collate(packed=packed, micro=micro, length=length, joined=self.plan.join.get())
        if isinstance(sampler, StreamSampler):
            return sampler.loader(collate, **options)
        return make_loader(data, sampler, collate, self.plan.transforms, **options)

    def eval_loader(self, data: TokenData, *, place: Place = ALONE, **options: Any) -> DataLoader[Any]:
        """Loader of all rows in their order, each once over all ranks."""
        packer = self.plan.pack_eval.get()
        packed = packer is not None
        sampler = BatchSampler(
            data.lengths,
            self._samples(self.batch.eval_micro, packed),
            seed=self.seed,
            packer=packer,
            shuffle=False,
            place=place,
        )
        collate = self.collate(packed=packed, micro=self.batch.eval_micro, length=self.batch.eval_length)
        return make_loader(data, sampler, collate, **options)

    @property
    def rows_follow_micro(self) -> bool:
        """Whether the rows of an optimizer step depend on the size of its micro-batches, not only on their number."""
        packed = bool(self.plan.pack)
        return (packed and self._one_row(packed)) or self.make_sampler is not BatchSampler

    def _one_row(self, packed: bool) -> bool:
        """Whether all samples of a micro-batch stand in one row."""
        return bool((self.plan.long_rows if packed else self.plan.flatten).get())

    def _samples(self, micro: int, packed: bool) -> int:
        """Samples of the sampler in a micro-batch: a long row is one."""
        return 1 if packed and self._one_row(packed) else micro

    def collate(self, *, packed: bool, micro: int, length: int, joined: bool | None = None) -> Collate:
        """What makes batches of samples (of bins, if ``packed``) of up to ``length`` tokens."""
        make = self.plan.collate.get()
        if make is not None:
            if self.plan.flatten:
                raise CollisionError(f"{self.plan.flatten.by} cannot be used with {self.plan.collate.by}'s collator")
            return Collate(make(self.tokenizer), packed)
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        one_row = self._one_row(packed)
        multiple = self._multiple()
        fixed = rounded(length * (micro if one_row else 1), multiple) if self.batch.pad_to_sequence_len else None
        side: Side = "left" if getattr(self.tokenizer, "padding_side", None) == "left" else "right"
        if packed and joined is not None:
            return Collate(JoinedCollator(pad, fixed, multiple, separated=joined, one_row=one_row), packed=True)
        if packed or one_row:
            isolation = self.plan.isolation.get(Isolation())
            assert isolation is not None
            return Collate(PackedCollator(pad, fixed, multiple, side, one_row, isolation), packed=True)
        return Collate(PaddedCollator(pad, multiple, fixed, side), packed=False)

    def _multiple(self) -> int | None:
        """What lengths are rounded up to: nothing only where padding is switched off."""
        if self.batch.pad_to_multiple_of is None and self.batch.pad_to_sequence_len is False:
            return None
        return self.batch.pad_to_multiple_of or ROUND
