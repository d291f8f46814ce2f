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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from newt.config.core import Dataset
from newt.config.section import Config, Problem, ProblemKind, Section
from newt.rows import Conversation, FormattedRow, Policy, Segment, Text, Tokens, Turn
from newt.support.errors import NewtError

if TYPE_CHECKING:  # names for readers and the type checker; nothing heavy is imported at run time
    import numpy as np
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

T = TypeVar("T")

__all__ = [
    "CollisionError", "Conversation", "DataPlan", "Facts", "Family", "Feature", "Format", "FormattedRow", "LoadPlan",
    "LossFn", "Method", "Packer", "Part", "Policy", "Segment", "Slot", "Swap", "Table", "Text", "Tokens", "TrainPlan",
    "Turn",
]  # fmt: skip


class CollisionError(NewtError):
    """Two Parts want the same slot."""


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


# --------------------------------------------------------------------------- slots


class Slot(Generic[T]):
    """A place that one Part may fill; others may wrap what is there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.by: str | None = None
        self._value: T | None = None
        self._wraps: list[tuple[Callable[[T], T], str]] = []

    def fill(self, value: T, *, by: str) -> None:
        """Put a value into the slot.

        Raises:
            CollisionError: another Part filled it already.
        """
        if self.by is not None:
            raise CollisionError(f"{self.by} and {by} both want to be the {self.name}: remove one of them")
        self._value, self.by = value, by

    def wrap(self, wrapper: Callable[[T], T], *, by: str) -> None:
        """Wrap whatever value the slot will hold; wrappers run in the order in which they were added."""
        self._wraps.append((wrapper, by))

    def get(self, default: T | None = None) -> T | None:
        """The value with its wrappers around it, or the default (wrapped as well)."""
        value = self._value if self.by is not None else default
        if value is None:
            return None
        for wrapper, _ in self._wraps:
            value = wrapper(value)
        return value

    def __bool__(self) -> bool:
        return self.by is not None


class Table(dict[str, Any]):
    """Keyword arguments that remember which Part set them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.by: dict[str, str] = {}

    def fill(self, *, by: str, **values: Any) -> None:
        """Set keyword arguments.

        Raises:
            CollisionError: another Part set one of them to another value.
        """
        for key, value in values.items():
            if key in self and self[key] != value:
                raise CollisionError(f"{self.by[key]} sets {self.name} {key}={self[key]!r}, and {by} sets {value!r}")
            self[key] = value
            self.by.setdefault(key, by)


@dataclass(frozen=True)
class Swap:
    """Replacement of module instances, made before sharding.

    Attributes:
        old: class of the modules to replace, as a dotted path (resolved when the plan is executed).
        new: makes the replacement from the old module.
        by: name of the Part.
        when: before or after the adapter is attached.
    """

    old: str
    new: Callable[[nn.Module], nn.Module]
    by: str
    when: Literal["before_adapter", "after_adapter"] = "after_adapter"


# --------------------------------------------------------------------------- plans


@dataclass
class LoadPlan:
    """How the model and its tokenizer are made. Executed by ``models.load``.

    Attributes:
        cfg: the config; ``cfg[Model]`` names the checkpoint.
        kwargs: keyword arguments of ``from_pretrained`` (``dtype``, ``attn_implementation`` ...).
        quantization: returns a transformers quantization config.
        adapter: takes the base model, returns the model with its adapter.
        distributed: shards the model.
        swaps: module replacements.
        prepare: steps on the finished model, in order (freezing, checkpointing hooks ...).
    """

    cfg: Config
    kwargs: Table = field(default_factory=lambda: Table("model argument"))
    quantization: Slot[Callable[[], Any]] = field(default_factory=lambda: Slot("quantization"))
    adapter: Slot[Callable[[PreTrainedModel], Any]] = field(default_factory=lambda: Slot("adapter"))
    distributed: Slot[Callable[[Any], Any]] = field(default_factory=lambda: Slot("distribution"))
    swaps: list[Swap] = field(default_factory=list)
    prepare: list[Callable[[Any], None]] = field(default_factory=list)


Packer = Callable[["np.ndarray", int], "tuple[np.ndarray, np.ndarray]"]
"""(lengths int32 (rows,), seed) -> (order int32 (rows,), offsets int64 (bins + 1,)): bin b holds the rows
``order[offsets[b]:offsets[b + 1]]``."""


@dataclass
class DataPlan:
    """How rows become batches. Executed by ``data.prepare`` and by the training room's loader.

    Attributes:
        cfg: the config.
        formats: one format instance for each entry of ``datasets``, then of ``test_datasets``.
        eval_formats: those of ``test_datasets``.
        rows: row kind that the method reads: what the formats must give.
        tokenize: makes token rows from a formatted row (default: the supervised tokenizer of ``data.tokenize``).
        pack: packs training rows into bins (none: one row is one sample).
        pack_eval: packs evaluation rows.
        collate: given the tokenizer, makes the collator.
    """

    cfg: Config
    formats: Sequence[Format]
    eval_formats: Sequence[Format] = ()
    rows: str = "supervised"
    tokenize: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("row tokenizer"))
    pack: Slot[Packer] = field(default_factory=lambda: Slot("packer"))
    pack_eval: Slot[Packer] = field(default_factory=lambda: Slot("evaluation packer"))
    collate: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("collator"))


LossFn = Callable[["nn.Module", Mapping[str, "Tensor"], "Tensor | int"], "Tensor"]
"""(model, batch, number of supervised tokens in the whole optimizer step) -> scalar loss, a sum over this
micro-batch's supervised tokens divided by that number."""


@dataclass
class TrainPlan:
    """How the model is trained. Executed by ``training.build``.

    Attributes:
        cfg: the config.
        args: keyword arguments of ``transformers.TrainingArguments``.
        loss: the loss function.
        optimizer: takes the model, returns the optimizer (none: what ``args['optim']`` names).
        schedule: takes the optimizer and the number of steps, returns the scheduler (none: what ``args`` name).
        batches: makes the batch sampler.
        reference: makes the frozen reference model.
        callbacks: make a ``TrainerCallback`` each, called when the trainer is built.
        trainer_kwargs: further keyword arguments of the trainer.
    """

    cfg: Config
    args: Table = field(default_factory=lambda: Table("trainer argument"))
    loss: Slot[LossFn] = field(default_factory=lambda: Slot("loss"))
    optimizer: Slot[Callable[[nn.Module], Optimizer]] = field(default_factory=lambda: Slot("optimizer"))
    schedule: Slot[Callable[[Optimizer, int], Any]] = field(default_factory=lambda: Slot("schedule"))
    batches: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("batch sampler"))
    reference: Slot[Callable[..., Any]] = field(default_factory=lambda: Slot("reference model"))
    callbacks: list[Callable[[], Any]] = field(default_factory=list)
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
        isolates_packed: packed samples do not see each other through position_ids alone (proved by a test).
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    unsupported: ClassVar[Mapping[str, str]] = {}
    isolates_packed: ClassVar[bool] = False


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

    def __call__(self, row: Mapping[str, Any]) -> FormattedRow:
        """Turn one row (None values removed) into something that can be tokenized.

        Raises:
            DataError: the row does not fit; the message says why, the caller adds dataset and row number.
        """
        raise NotImplementedError
