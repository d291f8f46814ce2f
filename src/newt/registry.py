"""All Parts, in the order of execution, and Run: those that a config selects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from newt.config.core import SECTIONS, Data, Dataset
from newt.config.load import check_sections
from newt.config.section import Config, Problem, Section
from newt.extend import CollisionError, DataPlan, Facts, Family, Feature, Format, LoadPlan, Method, Part, TrainPlan
from newt.families.cohere import Cohere
from newt.families.gemma import Gemma
from newt.families.glm import Glm
from newt.families.granite import Granite
from newt.families.llama import Llama
from newt.families.mistral import Mistral
from newt.families.mixtral import Mixtral
from newt.families.olmo import Olmo
from newt.families.phi import Phi
from newt.families.qwen import Qwen
from newt.families.smollm import SmolLm
from newt.features.attention import Attention
from newt.features.checkpointing import Checkpointing
from newt.features.lora import Lora
from newt.features.optimizers import Optimizers
from newt.features.packing import Packing
from newt.features.precision import Precision
from newt.features.schedules import Schedules
from newt.formats.alpaca import Alpaca
from newt.formats.chat_template import ChatTemplate
from newt.formats.completion import Completion
from newt.methods.sft import Sft

METHODS: tuple[type[Method], ...] = (Sft,)
FAMILIES: tuple[type[Family], ...] = (Llama, Mistral, Mixtral, Qwen, Gemma, Phi, SmolLm, Olmo, Granite, Glm, Cohere)
FEATURES: tuple[type[Feature], ...] = (Lora, Precision, Attention, Packing, Checkpointing, Optimizers, Schedules)
FORMATS: tuple[type[Format], ...] = (ChatTemplate, Alpaca, Completion)

FORMATS_TO_COME = (
    "alpaca_chat", "alpaca_instruct", "alpaca_w_system", "orcamini", "gpteacher", "oasst", "jeopardy", "explainchoice",
    "concisechoice", "summarizetldr", "reflection", "context_qa", "creative_acr", "metharme", "pygmalion",
    "llama2_chat", "input_output", "stepwise_supervised", "bradley_terry", "user_defined", "pretrain", "_synthetic",
    "messages", "chatml", "llama3", "zephyr", "orpo",
)  # fmt: skip
"""Formats of the field that Newt does not read yet."""


def sections() -> tuple[type[Section], ...]:
    """Every section of top-level keys: the core ones, then those of the Parts."""
    parts: tuple[type[Part], ...] = (*METHODS, *FAMILIES, *FEATURES)
    return (*SECTIONS, *(section for part in parts for section in part.Settings))


def entry_types() -> dict[str, type[Dataset]]:
    """Format name -> the keys of its dataset entries."""
    return {fmt.name: fmt.Settings for fmt in FORMATS}


class EntryType:
    """Chooses the section that reads a dataset entry: its format's."""

    others: Mapping[str, tuple[str, ...]] = {
        key: tuple(fmt.name for fmt in FORMATS if key in fmt.Settings.model_fields)
        for fmt in FORMATS
        for key in set(fmt.Settings.model_fields) - set(Dataset.model_fields)
    }
    """Entry key -> names of the formats that read it."""

    def __call__(self, entry: Mapping[str, Any]) -> type[Dataset] | Problem | str:
        """Return the section, or what is wrong with the entry's ``type``."""
        name = entry.get("type")
        known = entry_types()
        if name is None:
            return f"type is missing. Valid: {', '.join(known)}."
        if isinstance(name, str) and name in known:
            return known[name]
        base = name.split(".")[0].split(":")[0] if isinstance(name, str) else "a custom type"
        if base in FORMATS_TO_COME or base in known or base == "a custom type":
            message = f"{name if isinstance(name, str) else base} is known, but Newt does not support it yet."
            return Problem(("type",), message, kind="unsupported")
        if str(name).startswith("sharegpt"):
            return "sharegpt is now chat_template. Set type: chat_template and field_messages: conversations."
        near = get_close_matches(str(name), [*known, *FORMATS_TO_COME], 1)
        return (
            f"unknown type {name!r}." + (f" Did you mean {near[0]}?" if near else "") + f" Valid: {', '.join(known)}."
        )


class Run:
    """The Parts that a config selects, and the plans that they make."""

    def __init__(self, cfg: Config, facts: Facts) -> None:
        self.cfg = cfg
        self.facts = facts
        self.method = next(method for method in reversed(METHODS) if method.selected(cfg))(cfg, facts)
        self.family = next((f(cfg, facts) for f in FAMILIES if facts.model_type in f.model_types), None)
        self.features = tuple(feature(cfg, facts) for feature in FEATURES if feature.active(cfg))

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order of execution."""
        family = (self.family,) if self.family else ()
        return (self.method, *family, *self.features)

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with this combination. Torch-free."""
        yield from check_sections(self.cfg, sections())
        yield from self._inert_keys()
        yield from self._coming_keys()
        for part in self.parts:
            yield from part.check()
        yield from self._family_problems()
        yield from self._format_problems()
        try:
            self.load_plan(), self.data_plan(), self.train_plan()
        except CollisionError as collision:
            yield Problem((), str(collision))

    def _inert_keys(self) -> Iterator[Problem]:
        on = {type(feature) for feature in self.features}
        for feature in FEATURES:
            if feature in on:
                continue
            for section in feature.Settings:
                for key in section.model_fields:
                    if key in self.cfg.given and key not in feature.switches:
                        yield self.cfg.problem(key, f"has no effect: {feature.off}.", "Remove it, or switch it on.")

    def _coming_keys(self) -> Iterator[Problem]:
        """Keys that ask for something that is declared, but not built yet."""
        for section in sections():
            for key in section.model_fields:
                value = getattr(self.cfg[section], key)
                if section.is_coming(key) and key in self.cfg.given and value not in (None, False, (), {}):
                    yield self.cfg.problem(key, "is known, but Newt does not support it yet.", kind="unsupported")

    def _family_problems(self) -> Iterator[Problem]:
        kind = self.facts.model_type
        names = {feature.name for feature in self.features}
        for name, reason in (self.family.unsupported if self.family else {}).items():
            if name in names:
                yield Problem((), f"{name} cannot be used with {kind} models: {reason}")
        if kind and "packing" in names and not (self.family and self.family.isolates_packed):
            yield self.cfg.problem(
                "sample_packing",
                f"it is not proved that packed samples stay apart in {kind} models.",
                "Set sample_packing: false.",
            )

    def _format_problems(self) -> Iterator[Problem]:
        for key, fmt in self._keyed_formats():
            if fmt.rows != self.method.rows:
                message = f"{fmt.name} rows cannot be used by the method {self.method.name}."
                yield self.cfg.problem(f"{key}.type", message)
            found = self.facts.columns.get(key)
            if found is None:
                continue
            for column in fmt.columns():
                if column not in found:
                    message = f"the rows have no column {column!r}; they have: {', '.join(found)}."
                    yield self.cfg.problem(f"{key}.type", message, "Name the right column, or choose another type.")

    def _keyed_formats(self) -> Iterator[tuple[str, Format]]:
        data = self.cfg[Data]
        for key, entries in (("datasets", data.datasets), ("test_datasets", data.test_datasets)):
            for number, entry in enumerate(entries or ()):
                for fmt in self._formats((entry,)):
                    yield f"{key}.{number}", fmt

    def _formats(self, entries: Sequence[Dataset] | None) -> tuple[Format, ...]:
        """One for each entry; an entry of an unknown type has none, and its problem was reported."""
        by_name = {fmt.name: fmt for fmt in FORMATS}
        known = [entry for entry in entries or () if isinstance(entry.type, str) and entry.type in by_name]
        return tuple(by_name[str(entry.type)](entry, self.cfg) for entry in known)

    @cached_property
    def formats(self) -> tuple[Format, ...]:
        """One for each entry of ``datasets``."""
        return self._formats(self.cfg[Data].datasets)

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
        for part in self.parts:
            part.plan_data(plan)
        return plan

    def train_plan(self) -> TrainPlan:
        """How the model is trained."""
        plan = TrainPlan(self.cfg)
        for part in self.parts:
            part.plan_train(plan)
        return plan
