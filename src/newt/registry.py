"""All Parts, in the order of execution, and Run: those that a config selects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

from newt.config.core import SECTIONS, Data, Dataset
from newt.config.load import NOT_YET, check_sections
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
from newt.features.attention_kernels import AttentionKernels
from newt.features.bench_eval import BenchEval
from newt.features.causal_lm_eval import CausalLmEval
from newt.features.checkpointing import Checkpointing
from newt.features.chunked_loss import ChunkedLoss
from newt.features.comet import Comet
from newt.features.compile import Compile
from newt.features.context_parallel import ContextParallel
from newt.features.custom_trainer import CustomTrainer
from newt.features.cut_cross_entropy import CutCrossEntropy
from newt.features.ddp import Ddp
from newt.features.deepspeed import Deepspeed
from newt.features.dense_mixer import DenseMixer
from newt.features.derived import Derived
from newt.features.dion import Dion
from newt.features.dynamic_checkpoint import DynamicCheckpoint
from newt.features.eaft import Eaft
from newt.features.early_stopping import EarlyStopping
from newt.features.expert_parallel import ExpertParallel
from newt.features.flash_extras import FlashExtras
from newt.features.flattening import Flattening
from newt.features.fp8 import Fp8
from newt.features.fp32_norms import Fp32Norms
from newt.features.freeze import Freeze
from newt.features.fsdp import Fsdp
from newt.features.garbage_collection import GarbageCollection
from newt.features.generation_samples import GenerationSamples
from newt.features.gradio import Gradio
from newt.features.grokfast import Grokfast
from newt.features.hatchery import Hatchery
from newt.features.hub import Hub, HubDataset
from newt.features.images import Images
from newt.features.jagged_restarts import JaggedRestarts
from newt.features.liger import Liger
from newt.features.lisa import Lisa
from newt.features.llmcompressor import LlmCompressor
from newt.features.lm_eval import LmEval
from newt.features.loading import Loading
from newt.features.lora import Lora
from newt.features.lora_kernels import LoraKernels
from newt.features.lora_plus import LoraPlus
from newt.features.lr_groups import LrGroups
from newt.features.mesh import Mesh
from newt.features.mlflow import Mlflow
from newt.features.moe import Moe
from newt.features.moe_kernels import MoeKernels
from newt.features.mora import Mora
from newt.features.multimodal import Multimodal
from newt.features.neftune import Neftune
from newt.features.offload import Offload
from newt.features.optimizers import Optimizers
from newt.features.otel import Otel
from newt.features.packing import Packing
from newt.features.pose import Pose
from newt.features.precision import Precision
from newt.features.profiler import Profiler
from newt.features.qat import Qat
from newt.features.qgalore import QGalore
from newt.features.quantized_base import QuantizedBase
from newt.features.ray import Ray
from newt.features.relora import Relora
from newt.features.rl import Rl
from newt.features.sampling import Sampling
from newt.features.schedules import Schedules
from newt.features.selective_checkpointing import SelectiveCheckpointing
from newt.features.spectrum import Spectrum
from newt.features.streaming import Streaming
from newt.features.swanlab import Swanlab
from newt.features.tensorboard import Tensorboard
from newt.features.throughput import Throughput
from newt.features.tiled_mlp import TiledMlp
from newt.features.tokens import Tokens
from newt.features.trackio import Trackio
from newt.features.wandb import Wandb
from newt.features.watchdog import Watchdog
from newt.layouts import choose, format_of, formats_of_keys
from newt.layouts import entry_types as entry_types
from newt.methods.diffusion import Diffusion
from newt.methods.distill import Distill
from newt.methods.dpo import Dpo
from newt.methods.ebft import Ebft
from newt.methods.grpo import Grpo
from newt.methods.kto import Kto
from newt.methods.orpo import Orpo
from newt.methods.pretrain import Pretrain
from newt.methods.process_reward import ProcessReward
from newt.methods.reward import Reward
from newt.methods.sft import Sft
from newt.methods.simpo import Simpo

METHODS: tuple[type[Method], ...] = (
    Sft,
    Pretrain,
    Distill,
    Diffusion,
    Dpo,
    Kto,
    Orpo,
    Simpo,
    Grpo,
    Ebft,
    Reward,
    ProcessReward,
)
FAMILIES: tuple[type[Family], ...] = (Llama, Mistral, Mixtral, Qwen, Gemma, Phi, SmolLm, Olmo, Granite, Glm, Cohere)
FEATURES: tuple[type[Feature], ...] = (
    Lora,
    Loading,
    Tokens,
    QuantizedBase,
    Moe,
    Multimodal,
    Freeze,
    LoraPlus,
    Lisa,
    Relora,
    LoraKernels,
    Precision,
    Attention,
    Packing,
    Checkpointing,
    Optimizers,
    Schedules,
    AttentionKernels,
    FlashExtras,
    Fp8,
    Compile,
    Offload,
    SelectiveCheckpointing,
    Liger,
    CutCrossEntropy,
    ChunkedLoss,
    Eaft,
    TiledMlp,
    MoeKernels,
    DenseMixer,
    Spectrum,
    Mora,
    Neftune,
    Grokfast,
    LrGroups,
    Dion,
    QGalore,
    JaggedRestarts,
    Ddp,
    Deepspeed,
    Fsdp,
    Fp32Norms,
    Mesh,
    ContextParallel,
    ExpertParallel,
    Ray,
    EarlyStopping,
    Watchdog,
    GarbageCollection,
    Throughput,
    CausalLmEval,
    GenerationSamples,
    BenchEval,
    LmEval,
    Profiler,
    DynamicCheckpoint,
    Wandb,
    Mlflow,
    Comet,
    Tensorboard,
    Trackio,
    Swanlab,
    Otel,
    Gradio,
    Images,
    LlmCompressor,
    Hatchery,
    Rl,
    Streaming,
    Sampling,
    Flattening,
    Pose,
    Qat,
    Hub,
    HubDataset,
    CustomTrainer,
    Derived,
)


def sections(extra: Sequence[type[Part]] = ()) -> tuple[type[Section], ...]:
    """Every section of top-level keys: the core ones, those of the Parts, then those of ``extra`` Parts."""
    parts: tuple[type[Part], ...] = (*METHODS, *FAMILIES, *FEATURES, *extra)
    return tuple(dict.fromkeys((*SECTIONS, *(section for part in parts for section in part.Settings))))


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
        rows = next((method.rows for method in reversed(METHODS) if _chosen(method, values)), Sft.rows)
        if entry.get("type") is None and values.get("skip_prepare_dataset") and rows == Sft.rows:
            return Dataset
        return choose(entry, rows, _METHODS_OF_ROWS)


def _chosen(method: type[Method], values: Mapping[str, Any]) -> bool:
    return any(values.get(key) in wanted for key, wanted in method.chosen_by.items())


def _asked_for(rows: str) -> list[str]:
    methods = (item for method in METHODS if method.rows == rows for item in method.chosen_by.items())
    asked = [f"{key}: {str(value).lower()}" for key, values in methods for value in values]
    return ["supervised fine-tuning"] if rows == Sft.rows else asked


_METHODS_OF_ROWS = {method.rows: _asked_for(method.rows) for method in METHODS}
"""Row kind -> how a config asks for the methods that read it."""


class Run:
    """The Parts that a config selects, and the plans that they make.

    Args:
        cfg: the config, read with ``sections(extra)``.
        facts: what is known of the machine and the model.
        extra: further features, those of the user's plugins; they run after Newt's own.
    """

    def __init__(self, cfg: Config, facts: Facts, extra: Sequence[type[Feature]] = ()) -> None:
        self.extra = tuple(extra)
        self.cfg = cfg
        self.facts = facts
        self.method = next(method for method in reversed(METHODS) if method.selected(cfg))(cfg, facts)
        self.family = next((f(cfg, facts) for f in FAMILIES if facts.model_type in f.model_types), None)
        self.features = tuple(feature(cfg, facts) for feature in (*FEATURES, *extra) if feature.active(cfg))

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order of execution."""
        family = (self.family,) if self.family else ()
        return (self.method, *family, *self.features)

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with this combination. Torch-free."""
        yield from check_sections(self.cfg, sections(self.extra))
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
        switchable: tuple[type[Method] | type[Feature], ...] = (*METHODS, *FEATURES, *self.extra)
        for part in switchable:
            for section in part.Settings if part.off and part not in on else ():
                for key in section.model_fields:
                    given = key in self.cfg.given and key not in part.switches
                    if given and _asks(section, key, getattr(self.cfg[section], key)):
                        yield self.cfg.problem(key, f"has no effect: {part.off}.", "Remove it, or switch it on.")

    def _coming_keys(self) -> Iterator[Problem]:
        """Keys that ask for something that is declared, but not built yet."""
        for section in sections(self.extra):
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
        if kind and "packing" in names and not (self.family and self.family.isolates_packed):
            yield self.cfg.problem(
                "sample_packing",
                f"it is not proved that packed samples stay apart in {kind} models.",
                "Set sample_packing: false.",
            )

    def _format_problems(self) -> Iterator[Problem]:
        for key, fmt in self._keyed_formats():
            yield from fmt.entry.check_entry(self.cfg, key)
            found = self.facts.columns.get(key)
            if found is None:
                continue
            missing = [repr(column) for column in fmt.columns() if column not in found]
            if missing:
                message = f"the rows have no column {' and no '.join(missing)}; they have: {', '.join(found)}."
                yield self.cfg.problem(f"{key}.type", message, "Name the right column, or choose another type.")

    def _keyed_formats(self) -> Iterator[tuple[str, Format]]:
        data = self.cfg[Data]
        for key, entries in (("datasets", data.datasets), ("test_datasets", data.test_datasets)):
            for number, entry in enumerate(entries or ()):
                for fmt in self._formats((entry,)):
                    yield f"{key}.{number}", fmt

    def _formats(self, entries: Sequence[Dataset] | None) -> tuple[Format, ...]:
        """One for each entry; an entry of an unknown type has none, and its problem was reported."""
        found = ((entry, format_of(entry.type, self.method.rows)) for entry in entries or ())
        return tuple(fmt(entry, self.cfg) for entry, fmt in found if fmt and isinstance(entry, fmt.Settings))

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


def _asks(section: type[Section], key: str, value: Any) -> bool:
    """Whether a value asks for something else than what happens without the key."""
    default = section.model_fields[key].default
    if isinstance(value, Section) and not value.model_fields_set:
        return False
    return value != default and (value not in (None, False, (), {}) or default is True)
