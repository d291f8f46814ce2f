"""Run: the Parts that a config selects, their problems, and the plans that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

from newt import registry
from newt.config.attention import implementation
from newt.config.core import Data, Dataset, Model
from newt.config.load import NOT_YET, check_sections
from newt.config.section import Config, Problem, Section
from newt.extend import CollisionError, DataPlan, Facts, Feature, Format, LoadPlan, Method, Part, TrainPlan
from newt.layouts import choose, format_of, formats_of_keys
from newt.methods.sft import Sft
from newt.models.isolation import isolation
from newt.rows import Isolation


class EntryType:
    """Chooses the section that reads a dataset entry: its format's."""

    others: Mapping[str, tuple[str, ...]] = formats_of_keys()
    """Entry key -> names of the formats that read it."""

    def __call__(
        self, entry: Mapping[str, Any], key: str = "datasets", values: Mapping[str, Any] = MappingProxyType({})
    ) -> type[Dataset] | str:
        """Return the section, or what is wrong with the entry's ``type``.

        Args:
            entry: its keys as they came.
            key: the list that holds it, such as ``test_datasets``.
            values: all top-level values as they came; they say which method reads the rows.
        """
        if key == "pretraining_dataset":
            return choose({"type": "pretrain", **entry}, Sft.rows, _METHODS_OF_ROWS)
        rows = next((method.rows for method in reversed(registry.METHODS) if _chosen(method, values)), Sft.rows)
        if entry.get("type") is None and values.get("skip_prepare_dataset") and rows == Sft.rows:
            return Dataset
        return choose(entry, rows, _METHODS_OF_ROWS)


def _chosen(method: type[Method], values: Mapping[str, Any]) -> bool:
    return any(values.get(key) in wanted for key, wanted in method.chosen_by.items())


def _asked_for(rows: str) -> list[str]:
    methods = (item for method in registry.METHODS if method.rows == rows for item in method.chosen_by.items())
    asked = [f"{key}: {str(value).lower()}" for key, values in methods for value in values]
    return ["supervised fine-tuning"] if rows == Sft.rows else asked


_METHODS_OF_ROWS = {method.rows: _asked_for(method.rows) for method in registry.METHODS}
"""Row kind -> how a config asks for the methods that read it."""


class Run:
    """The Parts that a config selects, and the plans that they make.

    Args:
        cfg: the config, read with ``registry.sections(extra)``.
        facts: what is known of the machine and the model.
        extra: further features, those of the user's plugins; they run after Newt's own.
    """

    def __init__(self, cfg: Config, facts: Facts, extra: Sequence[type[Feature]] = ()) -> None:
        self.extra = tuple(extra)
        self.cfg = cfg
        self.facts = facts
        self.method = next(method for method in reversed(registry.METHODS) if method.selected(cfg))(cfg, facts)
        self.family = next((f(cfg, facts) for f in registry.FAMILIES if facts.model_type in f.model_types), None)
        self.features = tuple(feature(cfg, facts) for feature in (*registry.FEATURES, *extra) if feature.active(cfg))

    def changed(self, cfg: Config) -> Run:
        """The same run with other settings; itself where they are the same."""
        return self if cfg is self.cfg else Run(cfg, self.facts, self.extra)

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order of execution."""
        family = (self.family,) if self.family else ()
        return (self.method, *family, *self.features)

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with this combination. Torch-free."""
        yield from check_sections(self.cfg, registry.sections(self.extra))
        inert = list(self._inert_keys())
        yield from inert
        idle = {problem.keys for problem in inert}
        yield from (problem for problem in self._coming_keys() if problem.keys not in idle)
        for part in self.parts:
            yield from part.check()
        yield from self._family_problems()
        yield from self._format_problems()
        try:
            self.load_plan(), self.data_plan(), self.train_plan()
        except CollisionError as collision:
            yield Problem((), str(collision))

    def _inert_keys(self) -> Iterator[Problem]:
        on = {type(part) for part in self.parts}
        switchable: tuple[type[Method] | type[Feature], ...] = (*registry.METHODS, *registry.FEATURES, *self.extra)
        for part in switchable:
            for section in part.Settings if part.off and part not in on else ():
                for key in section.model_fields:
                    given = key in self.cfg.given and key not in part.switches
                    if given and _asks(section, key, getattr(self.cfg[section], key)):
                        yield self.cfg.problem(key, f"has no effect: {part.off}.", "Remove it, or switch it on.")

    def _coming_keys(self) -> Iterator[Problem]:
        """Keys that ask for something that is declared, but not built yet."""
        for section in registry.sections(self.extra):
            yield from self._coming(self.cfg[section])

    def _coming(self, section: Section, prefix: str = "") -> Iterator[Problem]:
        """The same in one section, in the blocks and in the entries that it holds."""
        for key in type(section).model_fields:
            name, value = f"{prefix}{key}", getattr(section, key)
            if section.is_coming(key):
                if name in self.cfg.given and (key == "type" or _asks(type(section), key, value)):
                    kind = value if isinstance(value, str) else "a type of one's own"
                    what = f"{kind} " if key == "type" else ""
                    yield self.cfg.problem(name, f"{what}{NOT_YET}", kind="unsupported")
            elif isinstance(value, Section):
                yield from self._coming(value, f"{name}.")
            elif isinstance(value, tuple):
                for number, item in enumerate(value):
                    if isinstance(item, Section):
                        yield from self._coming(item, f"{name}.{number}.")

    def _family_problems(self) -> Iterator[Problem]:
        kind = self.facts.model_type
        names = {feature.name for feature in self.features}
        for name, reason in (self.family.unsupported if self.family else {}).items():
            if name in names:
                yield Problem((), f"{name} cannot be used with {kind} models: {reason}")
        # Texts that are joined need not be kept apart.
        texts = self.cfg.value("pretraining_dataset") and not self.cfg[Data].has_eval
        joined = texts and not self.cfg.value("pretrain_multipack_attn")
        apart = None if joined else self.isolation
        for name, key in (("packing", "sample_packing"), ("flattening", "batch_flattening")):
            if name in names and isinstance(apart, str) and self.cfg.value(key) != "auto":
                yield self.cfg.problem(key, apart, f"Set {key}: false.")

    @cached_property
    def isolation(self) -> Isolation | str | None:
        """How packed samples stay apart, or why they do not; None while the model is not known."""
        if self.facts.model is None or not self.facts.model_type:
            return None
        model = {**self.facts.model, **(self.cfg[Model].overrides_of_model_config or {})}
        return isolation(model, implementation(self.cfg), self.facts.packages.get("transformers"))

    def _format_problems(self) -> Iterator[Problem]:
        for key, fmt in self._keyed_formats():
            yield from fmt.entry.check_entry(self.cfg, key)
            found = self.facts.columns.get(key)
            if found is None:
                continue
            missing = [repr(column) for column in fmt.columns() if column not in found]
            if missing:
                message = f"the rows have no column {' and no '.join(missing)}; they have: {', '.join(found)}."
                named = [_column_key(fmt.entry, column) for column in fmt.columns() if column not in found]
                keys = " and ".join(dict.fromkeys(key for key in named if key))
                hint = f"Name the right column{f' in {keys}' if keys else ''}, or choose another type."
                without = "Set type: without one, rows must be tokenized already."
                yield self.cfg.problem(f"{key}.type", message, hint if fmt.entry.type else without)

    def _keyed_formats(self) -> Iterator[tuple[str, Format]]:
        data = self.cfg[Data]
        texts = self.cfg.value("pretraining_dataset")
        lists = (("datasets", data.datasets), ("pretraining_dataset", texts), ("test_datasets", data.test_datasets))
        for key, entries in lists:
            for number, entry in enumerate(entries or ()):
                for fmt in self._formats((entry,)):
                    yield f"{key}.{number}", fmt

    def _formats(self, entries: Sequence[Dataset] | None) -> tuple[Format, ...]:
        """One for each entry; an entry of an unknown type has none, and its problem was reported."""
        found = ((entry, format_of(entry.type, self.method.rows)) for entry in entries or ())
        return tuple(fmt(entry, self.cfg) for entry, fmt in found if fmt and isinstance(entry, fmt.Settings))

    @cached_property
    def formats(self) -> tuple[Format, ...]:
        """One for each entry of ``datasets``, or of ``pretraining_dataset``."""
        return self._formats(self.cfg[Data].datasets or self.cfg.value("pretraining_dataset"))

    @cached_property
    def eval_formats(self) -> tuple[Format, ...]:
        """One for each entry of ``test_datasets``."""
        return self._formats(self.cfg[Data].test_datasets)

    def load_plan(self) -> LoadPlan:
        """How the model is made."""
        plan = LoadPlan(self.cfg)
        for part in self.parts:
            part.plan_load(plan)
        return plan

    def data_plan(self) -> DataPlan:
        """How rows become batches."""
        plan = DataPlan(self.cfg, self.formats, self.eval_formats, self.method.rows)
        if isinstance(self.isolation, Isolation):
            plan.isolation.fill(self.isolation, by="architecture")
        for part in self.parts:
            part.plan_data(plan)
        return plan

    def train_plan(self) -> TrainPlan:
        """How the model is trained."""
        plan = TrainPlan(self.cfg)
        for part in self.parts:
            part.plan_train(plan)
        return plan


def _column_key(entry: Dataset, column: str) -> str | None:
    """The key of an entry that names a column."""
    keys = (key for key in type(entry).model_fields if key.startswith("field") or key.endswith("_column"))
    return next((key for key in keys if getattr(entry, key) == column), None)


def _asks(section: type[Section], key: str, value: Any) -> bool:
    """Whether a value asks for something else than what happens without the key."""
    default = section.model_fields[key].default
    if isinstance(value, Section) and not value.model_fields_set:
        return False
    return value != default and (value not in (None, False, (), {}) or default is True)
