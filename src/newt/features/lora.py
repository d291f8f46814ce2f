"""LoRA adapters: train small low-rank matrices and leave the model as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

TO_COME = ("qlora", "llama-adapter", "mora")
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
HEADS = ("lm_head", "embed_out", "output")


class LoftqConfig(Section):
    """``peft.loftq_config``."""

    loftq_bits: Literal[2, 4, 8] = 4
    """Bits of the quantized weights that the adapter makes up for."""


class PeftSettings(Section):
    """``peft``: further settings of adapters."""

    loftq_config: LoftqConfig | None = None
    """LoftQ: begin with matrices that make up for the error of quantization."""


class LoraSettings(Section):
    """Keys of adapters."""

    coming: ClassVar[frozenset[str]] = frozenset(
        {"peft", "peft_autocast_adapter_dtype", "qlora_sharded_model_loading", "lora_on_cpu", "merge_lora"}
    )

    adapter: str | None = None
    """``lora``: train an adapter instead of the whole model."""
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
    peft_init_lora_weights: bool | str | None = None
    """How the matrices begin: ``true`` (no effect at first), ``gaussian``, ``pissa``, ``olora``, ``orthogonal``."""
    peft_layers_to_transform: tuple[int, ...] | None = None
    """Only layers with these numbers get an adapter."""
    peft_layers_pattern: str | tuple[str, ...] | None = None
    """Name of the list of layers, where it is not found by itself."""
    peft: PeftSettings | None = None
    """Further settings of adapters: ``loftq_config``."""
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
        if adapter in TO_COME:
            yield self.not_yet("adapter", str(adapter), "Use adapter: lora.")
            if adapter == "llama-adapter":  # it has no matrices, so no rank and no targets
                return
        elif adapter != "lora":
            hint = "Valid: lora. An adapter of your own needs its class in plugins."
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
        init = settings.peft_init_lora_weights
        if init in ("eva", "corda", "loftq", "lora_ga"):
            yield self.not_yet("peft_init_lora_weights", str(init), "Use pissa, olora or gaussian.")
        elif isinstance(init, str) and not re.fullmatch(r"gaussian|pissa(_niter_\d+)?|olora|orthogonal", init):
            hint = "Valid: true, gaussian, pissa, pissa_niter_N, olora, orthogonal."
            yield self.problem("peft_init_lora_weights", f"unknown initialization {init!r}.", hint)

    def _check_targets(self) -> Iterable[Problem]:
        settings = self.settings
        chosen = settings.lora_target_linear or settings.lora_target_modules or settings.lora_target_parameters
        if not chosen and settings.lora_model_dir is None:
            yield self.problem(
                ("lora_target_modules", "adapter"),
                "nothing is targeted.",
                "Set lora_target_linear: true, or list lora_target_modules.",
            )
        for key in ("lora_target_modules", "lora_exclude_modules"):
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
        init = settings.peft_init_lora_weights
        if settings.peft and settings.peft.loftq_config and init not in (None, True, "loftq"):
            message = "cannot be used with peft.loftq_config, which chooses the beginning itself."
            yield self.problem(("peft_init_lora_weights", "peft"), message, "Remove one.")
        for start, stop in settings.peft_layer_replication or ():
            if start >= stop:
                yield self.problem("peft_layer_replication", f"the range [{start}, {stop}] is empty.")
        rows, size = settings.peft_trainable_token_indices, (self.facts.model or {}).get("vocab_size")
        if isinstance(size, int) and isinstance(rows, tuple) and not self.cfg.value("tokens"):
            for number in (number for number in rows if number >= size):
                yield self.problem("peft_trainable_token_indices", f"there is no token {number}: the model has {size}.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Fill the adapter slot."""
        plan.adapter.fill(self.attach, by=self.name)

    def attach(self, model: Any) -> Any:
        """The model with its adapter: a new one, or that of ``lora_model_dir`` to be trained on."""
        from newt.models.adapters import attach_lora, load_lora

        settings = self.settings
        if settings.lora_model_dir:
            folder = Path(settings.lora_model_dir).expanduser()
            return load_lora(model, folder, trainable=True, expected=self._given_options())
        modules = settings.lora_target_modules
        return attach_lora(model, modules, linear=bool(settings.lora_target_linear), options=self.options())

    def options(self) -> dict[str, Any]:
        """The settings under the names of ``peft.LoraConfig``, except the target modules."""
        settings = self.settings
        parameters = settings.lora_target_parameters
        init = settings.peft_init_lora_weights
        return {
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
            "init_lora_weights": True if init is None else init,
            "layers_to_transform": _listed(settings.peft_layers_to_transform),
            "layers_pattern": _listed(settings.peft_layers_pattern),
            "layer_replication": _listed(settings.peft_layer_replication),
            "trainable_token_indices": _token_rows(settings.peft_trainable_token_indices),
            "ensure_weight_tying": bool(settings.peft_ensure_weight_tying),
        }

    def _given_options(self) -> dict[str, Any]:
        """Options that the user wrote and that an existing adapter has decided already."""
        keys = {
            "lora_r": "r",
            "lora_alpha": "lora_alpha",
            "peft_use_dora": "use_dora",
            "peft_use_rslora": "use_rslora",
            "lora_rank_pattern": "rank_pattern",
            "lora_alpha_pattern": "alpha_pattern",
        }
        options = self.options()
        return {name: options[name] for key, name in keys.items() if key in self.cfg.given}


def _listed(value: Any) -> Any:
    """Tuples as lists, which peft wants; everything else as it is."""
    return list(value) if isinstance(value, tuple) else value


def _token_rows(value: Any) -> Any:
    return {name: list(rows) for name, rows in value.items()} if isinstance(value, dict) else _listed(value)
