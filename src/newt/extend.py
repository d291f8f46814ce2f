"""Read this first: what a Part is, and the plans that Parts fill.

Everything that can be switched is a Part. A Part declares its YAML keys, its checks and its behaviour in one file,
and never patches anything: it fills slots of three plans. The plans are built before any weight is read, so hooks
must not import torch or transformers: they fill slots with functions, and those functions import what they need.

    Method   what is optimised            methods/    exactly one per run
    Family   a model architecture         families/   at most one per run
    Feature  a toggle                     features/   those whose ``active`` says so, in registry order
    Format   the layout of a dataset row  formats/    one per dataset
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from newt.config.core import Dataset
from newt.config.section import Config, Problem, ProblemKind, Section
from newt.rows import Conversation, FormattedRow, Isolation, Policy, Segment, Text, Tokens, Turn
from newt.slots import CollisionError, Slot, Swap, Table

if TYPE_CHECKING:  # names for readers and the type checker; nothing heavy is imported at run time
    import numpy as np
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

__all__ = [
    "CollisionError", "Conversation", "DataPlan", "Facts", "Family", "Feature", "FirstBatches", "Format",
    "FormattedRow", "Isolation",
    "LoadPlan", "LossFn", "Method", "Packer", "ParamGroups", "Part", "Policy", "Segment", "Slot", "Stored", "Swap",
    "Table", "Text", "Tokens",
    "TrainPlan", "Transform", "Turn",
]  # fmt: skip


# --------------------------------------------------------------------------- facts


@dataclass(frozen=True)
class Facts:
    """What checks may know about the machine and the model without loading either.

    Attributes:
        known: False when nothing was looked at (``newt check --no-facts``); checks that need facts then say nothing.
        gpus: number of CUDA devices.
        capability: compute capability of the first, such as (9, 0).
        cpu_bf16: the CPU multiplies bfloat16 natively.
        packages: installed distributions and their versions, lower case.
        model: the base model's config.json, None when it was not found.
        columns: dotted dataset key (``datasets.0``) -> column names of its first row, for local files.
    """

    known: bool = False
    gpus: int = 0
    capability: tuple[int, int] | None = None
    cpu_bf16: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def model_type(self) -> str | None:
        """``model_type`` of the base model's config.json."""
        return None if self.model is None else self.model.get("model_type")


# --------------------------------------------------------------------------- plans


@dataclass(frozen=True)
class FirstBatches:
    """Training data for an adapter that begins from them. Made by ``training.first_batches``.

    Attributes:
        rows: number of rows -> batches of that many rows of the training data (fewer, if there are no more), on the
            CPU: ``input_ids``, ``attention_mask``, ``labels``: int64 (samples, length), padded on the right. The same
            rows each time and in every process; no batch is larger than a micro-batch of the run.
        loss: (model, batch) -> mean next-token loss of its trained tokens, in the number format of the run.
        checkpoint: folder that the run goes on from, with the adapter as it is now; None at step 0.
    """

    rows: Callable[[int], Sequence[Mapping[str, Tensor]]]
    loss: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    checkpoint: Path | None = None


@dataclass
class LoadPlan:
    """How the model and its tokenizer are made. Executed by ``models.load``.

    Attributes:
        cfg: the config; ``cfg[Model]`` names the checkpoint.
        kwargs: keyword arguments of ``from_pretrained`` (``dtype``, ``attn_implementation`` ...).
        quantization: returns a transformers quantization config.
        adapter: takes the base model, returns the model with its adapter.
        adapter_of_data: (base model, training data) -> the model with its adapter; called in place of ``adapter`` where
            that begins from data.
        distributed: shards the model.
        swaps: module replacements.
        prepare_base: steps on the base model before its adapter, in order; each gets the notes for the user too.
        prepare: steps on the finished model, in order (freezing, checkpointing hooks ...).
    """

    cfg: Config
    kwargs: Table = field(default_factory=lambda: Table("model argument"))
    quantization: Slot[Callable[[], Any]] = field(default_factory=lambda: Slot("quantization"))
    adapter: Slot[Callable[[PreTrainedModel], Any]] = field(default_factory=lambda: Slot("adapter"))
    adapter_of_data: Slot[Callable[[PreTrainedModel, FirstBatches], Any]] = field(
        default_factory=lambda: Slot("adapter that begins from data")
    )
    distributed: Slot[Callable[[Any], Any]] = field(default_factory=lambda: Slot("distribution"))
    swaps: list[Swap] = field(default_factory=list)
    prepare_base: list[Callable[[Any, list[str]], None]] = field(default_factory=list)
    prepare: list[Callable[[Any], None]] = field(default_factory=list)


Packer = Callable[["np.ndarray", int], "tuple[np.ndarray, np.ndarray]"]
"""(lengths int32 (rows,), seed) -> (order int32 (rows,), offsets int64 (bins + 1,)): bin b holds the rows
``order[offsets[b]:offsets[b + 1]]``."""

Transform = Callable[[Mapping[str, "np.ndarray"], int, int], Mapping[str, "np.ndarray"]]
"""(token row, its number among the training rows, epoch) -> token row. It runs each time a training row is picked, and
its result depends on these three alone, so that a resumed run sees the same. It may replace columns and add
``position_ids``; the number of tokens stays."""


@dataclass
class DataPlan:
    """How rows become batches. Executed by ``data.prepare`` and by the training room's loader.

    Attributes:
        cfg: the config.
        formats: one format instance for each entry of ``datasets``, then of ``test_datasets``.
        eval_formats: those of ``test_datasets``.
        rows: row kind that the method reads: what the formats must give.
        keep_order: training rows stay in the order of the datasets and of their files.
        tokenize: makes token rows from a formatted row (default: the supervised tokenizer of ``data.tokenize``).
        pack: packs training rows into bins (none: one row is one sample).
        pack_eval: packs evaluation rows.
        collate: given the tokenizer, makes the collator.
        long_rows: a packed bin holds a whole micro-batch in one row (otherwise a micro-batch has ``micro_batch_size``
            bins, each a row of its own).
        flatten: samples that are not packed stand in one row for each micro-batch.
        isolation: how samples that share a row are kept apart: what was proved of the architecture.
        transforms: change training rows when they are picked, in this order.
        stream: rows of streamed training data that are shuffled and packed at once (none: rows are prepared).
        copies: makes what keeps prepared data in another place too (``data.push.HubCopies``).
        join: packed samples stand in a row as one text and see each other, True with padding between them (none: they
            are kept apart).
    """

    cfg: Config
    formats: Sequence[Format]
    eval_formats: Sequence[Format] = ()
    rows: str = "supervised"
    keep_order: bool = False
    tokenize: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("row tokenizer"))
    pack: Slot[Packer] = field(default_factory=lambda: Slot("packer"))
    pack_eval: Slot[Packer] = field(default_factory=lambda: Slot("evaluation packer"))
    collate: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("collator"))
    long_rows: Slot[bool] = field(default_factory=lambda: Slot("shape of packed batches"))
    flatten: Slot[bool] = field(default_factory=lambda: Slot("shape of batches that are not packed"))
    isolation: Slot[Isolation] = field(default_factory=lambda: Slot("isolation of samples in one row"))
    transforms: list[Transform] = field(default_factory=list)
    stream: Slot[int] = field(default_factory=lambda: Slot("stream"))
    copies: Slot[Callable[[], Any]] = field(default_factory=lambda: Slot("place of further copies"))
    join: Slot[bool] = field(default_factory=lambda: Slot("joint of packed samples"))


LossFn = Callable[["nn.Module", Mapping[str, "Tensor"], "Tensor | int"], "Tensor"]
"""(model, batch, number of supervised tokens in the whole optimizer step) -> scalar loss, a sum over this
micro-batch's supervised tokens divided by that number."""


ParamGroups = Callable[["nn.Module", "Collection[str]"], "list[dict[str, Any]]"]
"""(model, names of the parameters that weight decay shrinks) -> parameter groups of the optimizer: every trained
parameter in exactly one, each with ``params``, ``lr``, ``weight_decay`` and a ``name`` for logs."""


@dataclass(frozen=True)
class Stored:
    """Further state of a run that every checkpoint holds.

    Attributes:
        save: writes it into a checkpoint's folder: (trained model, folder).
        load: puts it back into the model: (model, folder). The weights of the checkpoint are loaded already.
    """

    save: Callable[[Any, Path], None]
    load: Callable[[Any, Path], None]


@dataclass
class TrainPlan:
    """How the model is trained. Executed by ``training.build``.

    Attributes:
        cfg: the config.
        args: keyword arguments of ``transformers.TrainingArguments``.
        loss: the loss function.
        cross_entropy: the next-token loss of methods that use one (none: ``losses.causal.causal_loss``).
        optimizer: takes the model, returns the optimizer (none: what ``args['optim']`` names).
        groups: makes the parameter groups of the optimizer (none: one learning rate for all).
        schedule: takes the optimizer and the number of steps, returns the scheduler (none: what ``args`` name).
        batches: makes the batch sampler.
        reference: makes the frozen reference model.
        callbacks: make a ``TrainerCallback`` each, called when the trainer is built.
        evaluations: find further metrics at each evaluation: (trainer) -> value by name. The model is in evaluation
            mode, and whatever they draw does not change the run.
        stored: further state of the run that checkpoints hold.
        trainer_kwargs: further keyword arguments of the trainer.
    """

    cfg: Config
    args: Table = field(default_factory=lambda: Table("trainer argument"))
    loss: Slot[LossFn] = field(default_factory=lambda: Slot("loss"))
    cross_entropy: Slot[LossFn] = field(default_factory=lambda: Slot("next-token loss"))
    optimizer: Slot[Callable[[nn.Module], Optimizer]] = field(default_factory=lambda: Slot("optimizer"))
    groups: Slot[ParamGroups] = field(default_factory=lambda: Slot("rule for parameter groups"))
    schedule: Slot[Callable[[Optimizer, int], Any]] = field(default_factory=lambda: Slot("schedule"))
    batches: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("batch sampler"))
    reference: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("reference model"))
    callbacks: list[Callable[[], Any]] = field(default_factory=list)
    evaluations: list[Callable[[Any], Mapping[str, float]]] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    trainer_kwargs: Table = field(default_factory=lambda: Table("trainer keyword"))


# --------------------------------------------------------------------------- parts


class Part:
    """One switchable piece: its keys, its checks, its behaviour. Made anew for each run.

    Class attributes:
        name: how messages and the registry call it.
        Settings: the sections of YAML keys that it owns.
    """

    name: ClassVar[str]
    Settings: ClassVar[tuple[type[Section], ...]] = ()

    def __init__(self, cfg: Config, facts: Facts = Facts()) -> None:
        self.cfg = cfg
        self.facts = facts

    def check(self) -> Iterable[Problem]:
        """Rules of this Part, with what ``self.facts`` knows of the machine and the model. Torch-free."""
        return ()

    def plan_load(self, plan: LoadPlan) -> None:
        """Fill the load plan. Torch-free: fill slots with functions that import what they need."""

    def plan_data(self, plan: DataPlan) -> None:
        """Fill the data plan. Torch-free."""

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the train plan. Torch-free."""

    def problem(
        self, keys: str | tuple[str, ...], message: str, hint: str = "", kind: ProblemKind = "invalid"
    ) -> Problem:
        """A problem with the place of its first key."""
        return self.cfg.problem(keys, message, hint, kind)

    def not_yet(self, key: str, value: str, hint: str = "") -> Problem:
        """The answer to a value that users of the field know and Newt does not offer yet."""
        return self.problem(key, f"{value} is known, but Newt does not support it yet.", hint, kind="unsupported")


class Feature(Part):
    """A toggle.

    Class attributes:
        off: why its keys have no effect when it is not active, such as "adapter is not set".
        switches: keys of its sections that may be written even when it is off (``adapter``, ``sample_packing: false``).
    """

    off: ClassVar[str] = ""
    switches: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Whether the config asks for this feature."""
        raise NotImplementedError


class Family(Part):
    """What is special about one model architecture.

    Class attributes:
        model_types: values of ``model_type`` in config.json.
        unsupported: feature name -> reason why it cannot be used with this architecture.
        zeros: inputs that the model wants with text, as zeros in the shape of ``input_ids``.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    unsupported: ClassVar[Mapping[str, str]] = {}
    zeros: ClassVar[tuple[str, ...]] = ()

    def plan_train(self, plan: TrainPlan) -> None:
        """Let the loss add the inputs that the model wants with text."""
        if self.zeros:
            plan.loss.wrap(self._with_zeros, by=self.name)

    def _with_zeros(self, loss: LossFn) -> LossFn:
        def with_zeros(model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int) -> Tensor:
            ids = batch["input_ids"]
            return loss(model, {**{name: ids.new_zeros(ids.shape) for name in self.zeros}, **batch}, num_items)

        return with_zeros


class Method(Part):
    """What is optimised.

    Class attributes:
        rows: row kind that it reads from the formats.
        chosen_by: top-level key -> its values that ask for this method, such as ``{"rl": ("dpo", "ipo")}``.
        off: why its keys have no effect when it is not selected, such as "rl is not kto".
        switches: keys of its sections that may be written even then.
    """

    rows: ClassVar[str] = "supervised"
    chosen_by: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    off: ClassVar[str] = ""
    switches: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def selected(cls, cfg: Config) -> bool:
        """Whether the config asks for this method."""
        return any(cfg.value(key) in values for key, values in cls.chosen_by.items())

    def trainer(self, plan: TrainPlan, data_plan: DataPlan, loaded: Any, datasets: Any) -> Any:
        """Build the trainer from the plans, the loaded model and the token rows."""
        raise NotImplementedError


# --------------------------------------------------------------------------- formats


class Format:
    """The layout of a dataset row.

    Class attributes:
        name: value of ``type`` in a dataset entry.
        names: all values of ``type``, where there are several.
        Settings: the entry's keys: a subclass of ``config.core.Dataset`` that adds this format's own.
        rows: row kind that it gives; a method reads one kind.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Dataset]] = Dataset
    rows: ClassVar[str] = "supervised"
    names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Whether it reads the rows of an entry with this ``type`` (a text, a mapping or a section, or None)."""
        return kind in (cls.names or (cls.name,))

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        self.entry = entry
        self.cfg = cfg

    def columns(self) -> Sequence[str]:
        """Columns that a row must have; the check compares them with the file's first row."""
        return ()

    def source(self, tokenizer: Any) -> Any:
        """The rows (a ``data.sources.Source``) of a format that makes them itself; None: they are at ``path``."""
        return None

    def modules(self) -> Sequence[str]:
        """Names of further modules whose code makes the rows: prepared data are made anew when it changes."""
        return ()

    def bind(self, tokenizer: Any) -> None:
        """Take the tokenizer; the row tokenizer calls it before the first row. For formats that give token ids."""

    def __call__(self, row: Mapping[str, Any]) -> FormattedRow:
        """Turn one row (None values removed) into something that can be tokenized.

        Raises:
            DataError: the row does not fit; the message says why, the caller adds dataset and row number.
        """
        raise NotImplementedError
