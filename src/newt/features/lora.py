"""LoRA adapters: train small low-rank matrices and leave the model as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, FirstBatches, LoadPlan, Stored, TrainPlan

TO_COME = ("llama-adapter",)
FROM_DATA = ("eva", "corda", "lora_ga")
"""Values of ``peft_init_lora_weights`` that are computed from training data."""

EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
HEADS = ("lm_head", "embed_out", "output")


class LoraSettings(Section):
    """Keys of adapters."""

    coming: ClassVar[frozenset[str]] = frozenset({"qlora_sharded_model_loading"})

    adapter: str | None = None
    """``lora``: train an adapter instead of the whole model. ``qlora``: the same on a base model in 4 bits."""
    lora_model_dir: str | None = None
    """Folder of an existing adapter to go on with, to infer with or to merge."""
    lora_r: PositiveInt | None = None
    """Rank of the update matrices."""
    lora_alpha: PositiveInt | None = None
    """Scale of the update: it is multiplied by lora_alpha / lora_r."""
    lora_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped in training. Default 0."""
    lora_target_modules: str | tuple[str, ...] | None = None
    """Modules that get an adapter: a list of names (``q_proj``), or one regular expression for full names."""
    lora_target_linear: bool | None = None
    """All linear layers except the output layer get an adapter."""
    lora_target_parameters: str | tuple[str, ...] | None = None
    """Three-dimensional parameters that get an adapter, such as ``mlp.experts.gate_up_proj``."""
    lora_exclude_modules: str | tuple[str, ...] | None = None
    """Modules that get none although they match: a list of names, or one regular expression."""
    lora_modules_to_save: tuple[str, ...] | None = None
    """Modules that are trained in full and saved with the adapter, such as ``embed_tokens`` and ``lm_head``."""
    lora_fan_in_fan_out: bool | None = None
    """The layers store their weights as (in, out), as GPT-2's do."""
    lora_rank_pattern: dict[str, PositiveInt] | None = None
    """Other ranks for modules whose name matches: pattern -> rank."""
    lora_alpha_pattern: dict[str, PositiveInt] | None = None
    """Other scales for modules whose name matches: pattern -> alpha."""
    peft_use_dora: bool | None = None
    """DoRA: learn magnitude and direction of the weights apart."""
    peft_use_rslora: bool | None = None
    """Rank-stabilized LoRA: the scale is lora_alpha / sqrt(lora_r)."""
    peft_layers_to_transform: tuple[NonNegativeInt, ...] | None = None
    """Only layers with these numbers get an adapter."""
    peft_layers_pattern: str | tuple[str, ...] | None = None
    """Name of the list of layers, where it is not found by itself."""
    peft_layer_replication: tuple[tuple[NonNegativeInt, PositiveInt], ...] | None = None
    """Build a deeper model from ranges of layers, such as ``[[0, 16], [8, 24]]``; only their adapters differ."""
    peft_trainable_token_indices: tuple[NonNegativeInt, ...] | dict[str, tuple[NonNegativeInt, ...]] | None = None
    """Ids of tokens whose embeddings are trained too; with names of embedding modules: one list for each."""
    peft_ensure_weight_tying: bool | None = None
    """Keep embedding and output layer one weight when both are trained. Always so where the model ties them."""
    peft_autocast_adapter_dtype: bool = True
    """Hold the adapter in float32, whatever the base model's number format."""
    qlora_sharded_model_loading: bool = False
    """Quantize and shard the base model layer by layer while it is loaded."""
    lora_on_cpu: bool | None = None
    """Read the adapter of ``lora_model_dir`` into the CPU's memory first."""
    merge_lora: bool | None = None
    """Not a setting of a run: ``newt merge-lora`` merges."""
    merge_method: Literal["memory_efficient", "legacy"] = "memory_efficient"
    """How ``newt merge-lora`` merges: tensor by tensor, or with the whole model in memory."""


class Lora(Feature):
    """Attaches a LoRA adapter to the loaded model."""

    name = "lora"
    Settings = (LoraSettings,)
    off = "adapter is not set"
    switches = ("adapter", "merge_method")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when ``adapter`` is set."""
        return cfg[LoraSettings].adapter is not None

    @property
    def settings(self) -> LoraSettings:
        """The keys of this feature."""
        return self.cfg[LoraSettings]

    def check(self) -> Iterable[Problem]:
        """A known adapter with rank, scale and targets, and no combination that trains something else."""
        adapter = self.settings.adapter
        if adapter == "mora":  # its own Part says why not
            return
        if adapter in TO_COME:
            yield self.not_yet("adapter", str(adapter), "Use adapter: lora.")
            if adapter == "llama-adapter":  # it has no matrices, so no rank and no targets
                return
        elif adapter not in ("lora", "qlora"):
            hint = "Valid: lora, qlora. An adapter of your own needs its class in plugins."
            yield self.problem("adapter", f"unknown adapter {adapter!r}.", hint)
        yield from self._check_size()
        yield from self._check_targets()
        yield from self._check_tied()
        yield from self._check_existing()
        yield from self._check_special()

    def _check_size(self) -> Iterable[Problem]:
        settings = self.settings
        if settings.lora_model_dir is None:
            for key, example in (("lora_r", 16), ("lora_alpha", 32)):
                if getattr(settings, key) is None:
                    yield self.problem((key, "adapter"), "is missing.", f"For example {key}: {example}.")
        if settings.lora_target_parameters:
            if settings.lora_dropout:
                yield self.problem("lora_dropout", "cannot be used with lora_target_parameters.", "Set it to 0.")
            if settings.peft_use_dora:
                yield self.problem("peft_use_dora", "cannot be used with lora_target_parameters.", "Remove one.")

    def _check_targets(self) -> Iterable[Problem]:
        settings = self.settings
        chosen = settings.lora_target_linear or settings.lora_target_modules or settings.lora_target_parameters
        if not chosen and settings.lora_model_dir is None:
            yield self.problem(
                ("lora_target_modules", "adapter"),
                "nothing is targeted.",
                "Set lora_target_linear: true, or list lora_target_modules.",
            )
        for key in ("lora_target_modules", "lora_exclude_modules", "lora_rank_pattern", "lora_alpha_pattern"):
            value = getattr(settings, key)
            for pattern in (value,) if isinstance(value, str) else value or ():
                try:
                    re.compile(pattern)
                except re.error as error:
                    yield self.problem(key, f"{pattern!r} is not a regular expression: {error}.")
        if isinstance(settings.lora_target_modules, str) and settings.lora_target_linear:
            yield self.problem(
                ("lora_target_linear", "lora_target_modules"),
                "cannot be used with a regular expression in lora_target_modules.",
                "Remove one, or make it a list.",
            )
        if settings.peft_layers_pattern and settings.peft_layers_to_transform is None:
            yield self.problem("peft_layers_pattern", "needs peft_layers_to_transform.")
        if settings.peft_layers_to_transform is not None and isinstance(settings.lora_target_modules, str):
            yield self.problem(
                "peft_layers_to_transform",
                "cannot be used with a regular expression in lora_target_modules.",
                "Put the layer numbers into the expression, or list the modules.",
            )

    def _check_tied(self) -> Iterable[Problem]:
        modules = self.settings.lora_target_modules
        if not (self.facts.model or {}).get("tie_word_embeddings") or not isinstance(modules, tuple):
            return
        if set(modules) & set(EMBEDDINGS) and set(modules) & set(HEADS):
            yield self.problem(
                "lora_target_modules",
                "this model's embedding and output layer are one weight, and cannot have an adapter each.",
                "Remove one, or name both in lora_modules_to_save instead.",
            )

    def _check_existing(self) -> Iterable[Problem]:
        if self.settings.lora_model_dir is None:
            return
        folder = Path(self.settings.lora_model_dir).expanduser()
        if not folder.is_dir():
            yield self.problem("lora_model_dir", f"there is no folder {folder}.")
        elif not (folder / "adapter_config.json").is_file():
            yield self.problem("lora_model_dir", f"{folder} holds no adapter (no adapter_config.json).")
        else:
            try:
                json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            except ValueError:
                yield self.problem("lora_model_dir", f"{folder / 'adapter_config.json'} is not valid JSON.")

    def _check_special(self) -> Iterable[Problem]:
        settings = self.settings
        if settings.merge_lora:
            yield self.problem("merge_lora", "is not a setting of a run.", "Remove it; newt merge-lora merges.")
        if not settings.peft_autocast_adapter_dtype and (self.cfg.value("fp16") or self.cfg.value("float16")):
            message = "an adapter in float16 cannot be trained: its gradients vanish."
            yield self.problem("peft_autocast_adapter_dtype", message, "Remove it.")
        if settings.lora_on_cpu and settings.lora_model_dir is None:
            yield self.problem("lora_on_cpu", "has no effect: lora_model_dir is not set.", "Remove it.")
        yield from self._check_replication()
        yield from self._check_rows()
        if self.cfg.value("reinit_weights") and not self.cfg.value("relora"):
            message = "the random weights would not be saved with the adapter, which fits no others."
            yield self.problem(("reinit_weights", "adapter"), message, "Remove one.")

    def _check_rows(self) -> Iterable[Problem]:
        """Each row of an embedding that is trained is there, once."""
        key, given = "peft_trainable_token_indices", self.settings.peft_trainable_token_indices
        if given is None:
            return
        size = (self.facts.model or {}).get("vocab_size")
        grows = any(self.cfg.value(other) for other in ("tokens", "special_tokens", "resize_token_embeddings_to_32x"))
        for rows in given.values() if isinstance(given, dict) else (given,):
            if not rows:
                yield self.problem(key, "names no token.", "Remove it, or list ids.")
            for number in dict.fromkeys(number for number in rows if rows.count(number) > 1):
                yield self.problem(key, f"token {number} is listed twice.", "Keep one.")
            for number in (number for number in rows if isinstance(size, int) and number >= size and not grows):
                yield self.problem(key, f"there is no token {number}: the model has {size}.")

    def _check_replication(self) -> Iterable[Problem]:
        key, layers = "peft_layer_replication", (self.facts.model or {}).get("num_hidden_layers")
        if isinstance(layers, int) and not self.settings.peft_layer_replication:
            for number in self.settings.peft_layers_to_transform or ():
                if number >= layers:
                    message = f"there is no layer {number}: the model has {layers}, from 0 on."
                    yield self.problem("peft_layers_to_transform", message)
        for start, stop in self.settings.peft_layer_replication or ():
            if start >= stop:
                yield self.problem(key, f"the range [{start}, {stop}] is empty.")
            elif isinstance(layers, int) and stop > layers:
                yield self.problem(key, f"the range [{start}, {stop}] ends beyond the model's {layers} layers.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Fill the adapter slot. Where whole weights lie here, an adapted layer is computed in one operation."""
        plan.adapter.fill(self.attach, by=self.name)
        if self.cfg.value("peft_init_lora_weights") in FROM_DATA and self.settings.lora_model_dir is None:
            plan.adapter_of_data.fill(self.attach_from_data, by=self.name)
        if not any(self.cfg.value(key) for key in SHARDING):
            plan.prepare.append(_fuse)

    def plan_train(self, plan: TrainPlan) -> None:
        """Checkpoints say which base their adapter fits, as the finished adapter does."""
        plan.stored.append(Stored(save=_beside, load=_nothing))

    def attach(self, model: Any) -> Any:
        """The model with its adapter: a new one, or that of ``lora_model_dir`` to be trained on."""
        from newt.models.adapters import attach_lora, load_lora

        settings = self.settings
        float32 = settings.peft_autocast_adapter_dtype
        if settings.lora_model_dir:
            folder = Path(settings.lora_model_dir).expanduser()
            on_cpu = bool(settings.lora_on_cpu)
            given = self.given_options()
            return load_lora(model, folder, trainable=True, given=given, float32=float32, on_cpu=on_cpu)
        modules, linear = settings.lora_target_modules, bool(settings.lora_target_linear)
        return attach_lora(model, modules, linear=linear, options=self.options(), float32=float32)

    def attach_from_data(self, model: Any, data: FirstBatches) -> Any:
        """The model with a new adapter that begins from training data."""
        from newt.models.adapter_data import attach_from_data

        modules, linear = self.settings.lora_target_modules, bool(self.settings.lora_target_linear)
        float32 = self.settings.peft_autocast_adapter_dtype
        return attach_from_data(model, modules, linear=linear, options=self.options(), data=data, float32=float32)

    def options(self) -> dict[str, Any]:
        """The settings under the names of ``peft.LoraConfig``, except the target modules."""
        settings = self.settings
        parameters = settings.lora_target_parameters
        init, peft = self.cfg.value("peft_init_lora_weights"), self.cfg.value("peft")
        loftq = peft.loftq_config if peft else None
        bits = {"loftq_config": {"loftq_bits": loftq.loftq_bits if loftq else 4}} if loftq or init == "loftq" else {}
        return {
            **bits,
            "r": settings.lora_r,
            "lora_alpha": settings.lora_alpha,
            "lora_dropout": settings.lora_dropout or 0.0,
            "target_parameters": [parameters] if isinstance(parameters, str) else _listed(parameters),
            "exclude_modules": _listed(settings.lora_exclude_modules),
            "modules_to_save": _listed(settings.lora_modules_to_save),
            "fan_in_fan_out": bool(settings.lora_fan_in_fan_out),
            "rank_pattern": dict(settings.lora_rank_pattern or {}),
            "alpha_pattern": dict(settings.lora_alpha_pattern or {}),
            "use_dora": bool(settings.peft_use_dora),
            "use_rslora": bool(settings.peft_use_rslora),
            "init_lora_weights": "loftq" if bits else True if init is None else init,
            "layers_to_transform": _listed(settings.peft_layers_to_transform),
            "layers_pattern": _listed(settings.peft_layers_pattern),
            "layer_replication": _listed(settings.peft_layer_replication),
            "trainable_token_indices": _token_rows(settings.peft_trainable_token_indices),
            "ensure_weight_tying": bool(settings.peft_ensure_weight_tying),
        }

    def given_options(self) -> dict[str, tuple[str, Any]]:
        """What the user wrote and an existing adapter has decided: key -> (name of the option, value)."""
        options = {**self.options(), "target_modules": _listed(self.settings.lora_target_modules)}
        return {key: (name, options[name]) for key, name in OPTIONS.items() if key in self.cfg.given}


OPTIONS = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_target_modules": "target_modules",
    "lora_target_parameters": "target_parameters",
    "lora_modules_to_save": "modules_to_save",
    "lora_rank_pattern": "rank_pattern",
    "lora_alpha_pattern": "alpha_pattern",
    "lora_fan_in_fan_out": "fan_in_fan_out",
    "peft_use_dora": "use_dora",
    "peft_use_rslora": "use_rslora",
    "peft_layers_to_transform": "layers_to_transform",
    "peft_layer_replication": "layer_replication",
    "peft_trainable_token_indices": "trainable_token_indices",
}
"""Keys that an existing adapter has decided, and their names in its config."""


SHARDING = ("deepspeed", "fsdp", "fsdp_config", "tensor_parallel_size")
"""Keys with which a layer's weights are whole only while the layer itself is called."""


def _fuse(model: Any) -> None:
    from newt.models.lora_linear import fuse_lora

    fuse_lora(model)


def _beside(model: Any, folder: Path) -> None:
    from newt.models.save import write_beside

    write_beside(model, folder)


def _nothing(model: Any, folder: Path) -> None:
    """The base is loaded from ``base_model``."""


def _listed(value: Any) -> Any:
    """Tuples as lists, which peft wants; everything else as it is."""
    return list(value) if isinstance(value, tuple) else value


def _token_rows(value: Any) -> Any:
    return {name: list(rows) for name, rows in value.items()} if isinstance(value, dict) else _listed(value)
