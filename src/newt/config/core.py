"""Sections that more than one Part reads. A key that only one Part reads lives in that Part's file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, SerializeAsAny

from newt.config.accelerator import Accelerator
from newt.config.entries import Dataset as Dataset
from newt.config.plugins import Plugins
from newt.config.rl import Objective as Objective
from newt.config.section import Config, Problem, Section


class SpecialTokens(Section):
    """``special_tokens``: which strings the tokenizer uses for which purpose."""

    bos_token: str | None = None
    """Beginning-of-sequence token."""
    eos_token: str | None = None
    """End-of-sequence token. It must be the one that the chat template writes after an answer."""
    pad_token: str | None = None
    """Padding token. Default: the tokenizer's own, else the end-of-sequence token."""
    unk_token: str | None = None
    """Unknown-token token."""
    additional_special_tokens: tuple[str, ...] | None = None
    """Further special tokens."""


class Model(Section):
    """Which model and tokenizer are trained."""

    base_model: str = Field()
    """Folder of a model, or its id on the Hugging Face Hub."""
    base_model_config: str | None = None
    """Where config.json comes from, when not from ``base_model``."""
    overrides_of_model_config: dict[str, Any] | None = None
    """Values that replace those of config.json, such as ``rope_parameters``. Also written ``model_config``."""
    overrides_of_model_kwargs: dict[str, Any] | None = None
    """Further keyword arguments of ``from_pretrained``. Also written ``model_kwargs``."""
    type_of_model: str | None = None
    """Class of transformers that loads the model. Also written ``model_type``. Default: AutoModelForCausalLM."""
    revision_of_model: str | None = None
    """Branch, tag or commit on the Hub. Also written ``model_revision``."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources that you trust."""
    tokenizer_config: str | None = None
    """Where the tokenizer comes from, when not from ``base_model``."""
    tokenizer_type: str | None = None
    """Tokenizer class of transformers. Default: AutoTokenizer."""
    tokenizer_use_fast: bool = True
    """Use the fast tokenizer. Exact masks need it."""
    tokenizer_legacy: bool | None = None
    """The ``legacy`` argument of T5's and Llama's tokenizers. Default: what the tokenizer's files say."""
    special_tokens: SpecialTokens | None = None
    """Special tokens to set or to replace."""
    tokens: tuple[str, ...] | None = None
    """Tokens to add to the vocabulary."""
    resize_token_embeddings_to_32x: bool = False
    """Grow the vocabulary to a multiple of 32."""
    mean_resizing_embeddings: bool = False
    """Draw new embedding rows from the distribution of the old ones instead of the model's initializer."""
    shrink_embeddings: bool = False
    """Also make the embedding smaller when the tokenizer has fewer tokens than it has rows."""
    reinit_weights: bool = False
    """Start from random weights instead of the pretrained ones."""


class Template(Section):
    """How conversations become text."""

    chat_template: str | None = None
    """``tokenizer_default``, ``jinja`` (with ``chat_template_jinja``), or the name of a built-in template."""
    chat_template_jinja: str | None = None
    """A Jinja template, or the path of a file that holds one."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables for the template, such as ``enable_thinking``."""
    eot_tokens: tuple[str, ...] | None = None
    """Tokens that end a turn, where they are not the end-of-sequence token."""
    default_system_message: str | None = None
    """System message of conversations that have none, in a template that writes one."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """A jinja template needs its text; the text alone selects it."""
        if self.chat_template == "jinja" and not self.chat_template_jinja:
            yield cfg.problem("chat_template", "jinja needs the template.", "Set chat_template_jinja.")
        if self.chat_template not in (None, "jinja") and self.chat_template_jinja:
            yield cfg.problem(
                "chat_template_jinja",
                f"has no effect: chat_template is {self.chat_template}.",
                "Set chat_template: jinja, or remove it.",
            )


class Data(Section):
    """Which rows are trained and evaluated."""

    datasets: tuple[SerializeAsAny[Dataset], ...] | None = Field(default=None, min_length=1)
    """Training data, one entry for each source."""
    test_datasets: tuple[SerializeAsAny[Dataset], ...] | None = Field(default=None, min_length=1)
    """Evaluation data. Not together with ``val_set_size``."""
    val_set_size: float = Field(default=0.0, ge=0)
    """Part of the training data kept for evaluation: a share below 1, or a number of rows."""
    train_on_inputs: bool = False
    """Also train on prompts and user turns."""
    split_special_tokens: bool = False
    """Special tokens in the text of rows are plain text. Those that the chat template writes stay special."""
    dataset_prepared_path: str | None = None
    """Where tokenized data is kept between runs. Default: last_run_prepared, written but not reused."""
    dataset_num_proc: PositiveInt | None = None
    """Processes that tokenize. Default: the number of cores."""
    shuffle_merged_datasets: bool = True
    """Shuffle the rows (with ``seed``) after all datasets were joined."""
    shuffle_before_merging_datasets: bool = False
    """Shuffle each dataset before they are joined."""
    weight_by: Literal["rows", "tokens"] | None = None
    """What the ``weight`` of the datasets means: their parts of the rows, or of the tokens, of an epoch, which stays as
    long as it is. Default: how often each row is used."""
    excess_length_strategy: Literal["drop", "truncate", "raise"] = "drop"
    """What happens to a row longer than ``sequence_len``."""
    min_sample_len: NonNegativeInt = 2
    """Rows with fewer tokens are dropped."""
    dataset_exact_deduplication: bool = False
    """Keep only the first of rows that are equal, and do not train on rows that are evaluated."""
    dataset_shard_num: PositiveInt | None = None
    """Cut the joined datasets into this many parts and train one of them."""
    dataset_shard_idx: NonNegativeInt | None = None
    """Number of that part."""
    dataset_keep_in_memory: bool = False
    """Read prepared data into memory instead of mapping their files."""
    num_dataset_shards_to_save: PositiveInt | None = None
    """Arrow files that prepared data are written to, with about the same number of rows each. Default: one."""
    skip_prepare_dataset: bool = False
    """The rows are tokenized already and are used as they are: none is dropped or cut, whatever its length."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """There must be training data, and one way to get evaluation data."""
        for number, entry in enumerate(self.datasets or ()):
            if entry in (self.datasets or ())[:number]:
                effect = "its rows are trained twice" + (", and evaluated too" if self.val_set_size else "")
                yield cfg.problem(f"datasets.{number}", f"stands twice: {effect}.", "Remove one.", kind="warning")
        if self.val_set_size > 1 and self.val_set_size % 1:
            yield cfg.problem("val_set_size", "must be a share below 1, or a whole number of rows.")
        if self.skip_prepare_dataset:
            yield from self._as_they_are(cfg)
        for key, other in (("dataset_shard_num", "dataset_shard_idx"), ("dataset_shard_idx", "dataset_shard_num")):
            if getattr(self, key) is not None and getattr(self, other) is None:
                yield cfg.problem(key, f"needs {other}.", "Set both, or remove it.")
        if self.dataset_shard_num and (self.dataset_shard_idx or 0) >= self.dataset_shard_num:
            yield cfg.problem("dataset_shard_idx", f"must be less than dataset_shard_num ({self.dataset_shard_num}).")
        if self.datasets is None and "pretraining_dataset" not in cfg.given:
            yield cfg.problem("datasets", "is missing.", "Add the training data: a list with path and type.")
        if self.val_set_size and self.test_datasets:
            yield cfg.problem(("val_set_size", "test_datasets"), "cannot be used with test_datasets.", "Remove one.")

    def _as_they_are(self, cfg: Config) -> Iterable[Problem]:
        """What asks for a preparation of the rows."""
        if self.dataset_exact_deduplication:
            keys = ("dataset_exact_deduplication", "skip_prepare_dataset")
            yield cfg.problem(keys, "cannot be used with skip_prepare_dataset.", "Remove one.")
        for name, entries in (("datasets", self.datasets), ("test_datasets", self.test_datasets)):
            for number, entry in enumerate(entries or () if not cfg.value("processor_type") else ()):
                if entry.type not in (None, "", "pretokenized"):
                    message = "skip_prepare_dataset takes rows that are tokenized already."
                    yield cfg.problem(f"{name}.{number}.type", message, "Leave type empty, or prepare the rows.")

    @property
    def has_eval(self) -> bool:
        """Whether the config asks for evaluation data."""
        return bool(self.val_set_size or self.test_datasets)


class Batch(Section):
    """How many tokens a step sees."""

    micro_batch_size: PositiveInt | None = None
    """Samples (or packed rows) that one device handles at once. Default 1."""
    gradient_accumulation_steps: PositiveInt | None = None
    """Micro-batches that make one optimizer step. Default 1."""
    batch_size: PositiveInt | None = None
    """Samples of one optimizer step on one device; an alternative to ``gradient_accumulation_steps``."""
    eval_batch_size: PositiveInt | None = None
    """Samples that one device evaluates at once. Default: ``micro_batch_size``."""
    sequence_len: PositiveInt = 512
    """Longest training row in tokens, and the length of a packed row."""
    eval_sequence_len: PositiveInt | None = None
    """The same for evaluation rows. Default: ``sequence_len``."""
    pad_to_sequence_len: bool | None = None
    """Pad every batch to ``sequence_len``, so that all have one shape."""
    pad_to_multiple_of: PositiveInt | None = None
    """Pad to a multiple of this number of tokens."""
    auto_find_batch_size: bool = False
    """Halve ``micro_batch_size`` and double ``gradient_accumulation_steps`` until a micro-batch fits into memory: the
    optimizer step stays what it is."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """The batch must be said in exactly one way."""
        if self.batch_size and self.gradient_accumulation_steps:
            yield cfg.problem(
                ("batch_size", "gradient_accumulation_steps"),
                "cannot be used with gradient_accumulation_steps.",
                "Remove batch_size.",
            )
        elif sum(x is not None for x in (self.micro_batch_size, self.gradient_accumulation_steps, self.batch_size)) < 2:
            missing = [] if self.micro_batch_size else ["micro_batch_size"]
            if not self.batch_size and not self.gradient_accumulation_steps:
                missing.append("gradient_accumulation_steps")
            yield cfg.problem(missing[0], "the batch is not fully given.", f"Set {' and '.join(missing)}.")
        elif self.batch_size and self.batch_size % self.micro:
            yield cfg.problem("batch_size", f"is not a multiple of micro_batch_size ({self.micro}).")

    @property
    def micro(self) -> int:
        """Samples of one micro-batch."""
        return self.micro_batch_size or 1

    @property
    def accumulation(self) -> int:
        """Micro-batches of one optimizer step."""
        if self.batch_size:
            return max(1, self.batch_size // self.micro)
        return self.gradient_accumulation_steps or 1

    def split(self, micro: int) -> Batch:
        """The same optimizer step in micro-batches of another size.

        Args:
            micro: divides the samples of a step.
        """
        steps = None if self.batch_size else self.micro * self.accumulation // micro
        return self.model_copy(update={"micro_batch_size": micro, "gradient_accumulation_steps": steps})

    @property
    def eval_micro(self) -> int:
        """Samples of one evaluation batch."""
        return self.eval_batch_size or self.micro

    @property
    def eval_length(self) -> int:
        """Longest evaluation row in tokens."""
        return self.eval_sequence_len or self.sequence_len

    def global_size(self, world: int) -> int:
        """Samples of one optimizer step over all devices."""
        return self.micro * self.accumulation * world


class RunControl(Section):
    """How long a run lasts, where it writes, how it goes on."""

    output_dir: str = "./model-out"
    """Folder for checkpoints, the final model, metrics and the report."""
    seed: int = 42
    """Seed of every random choice."""
    num_epochs: float = Field(default=1.0, gt=0)
    """Passes over the training data."""
    max_steps: PositiveInt | None = None
    """Optimizer steps; wins over ``num_epochs``."""
    max_grad_norm: float | None = Field(default=None, ge=0)
    """Gradients are scaled down to this norm. Default 1.0. 0: they are not."""
    resume_from_checkpoint: str | bool | None = None
    """Checkpoint folder to go on from; ``true``: the newest valid one in ``output_dir``."""
    auto_resume_from_checkpoints: bool = False
    """Go on from the newest valid checkpoint in ``output_dir``, if there is one."""
    overwrite_output_dir: bool = False
    """Allow ``output_dir`` to hold another run; its checkpoints are deleted when training starts."""
    report_samples: NonNegativeInt = 3
    """Held-out prompts that are answered before and after training, for the report. 0: none."""
    strict: bool = False
    """Command-line overrides may not bring keys that the file lacks."""
    debug: bool = False
    """Show tracebacks and more log lines."""


class Cadence(Section):
    """When the run logs, evaluates and saves."""

    logging_steps: PositiveInt | None = None
    """Steps between log lines. Default: 0.5 % of the steps, between 1 and 10."""
    eval_steps: float | None = Field(default=None, gt=0)
    """Steps between evaluations; below 1: a share of all steps."""
    evals_per_epoch: NonNegativeInt | None = None
    """Evaluations in each epoch. 0: none."""
    eval_strategy: Literal["no", "epoch", "steps"] | None = None
    """When to evaluate. Default: by steps if a number is given, else after each epoch if there is evaluation data."""
    save_steps: float | None = Field(default=None, gt=0)
    """Steps between checkpoints; below 1: a share of all steps."""
    saves_per_epoch: NonNegativeInt | None = None
    """Checkpoints in each epoch. 0: only at the end."""
    save_strategy: Literal["no", "epoch", "steps", "best"] | None = None
    """When to save a checkpoint. Default: by steps if a number is given, else after each epoch."""
    save_total_limit: PositiveInt | None = 4
    """Checkpoints to keep; older ones are deleted."""
    save_only_model: bool = False
    """Checkpoints without optimizer state; a run goes on from them with a fresh optimizer, and says so."""
    save_safetensors: bool = True
    """Weights are always saved as safetensors."""
    save_first_step: bool = False
    """Also save a checkpoint after the first step."""
    load_best_model_at_end: bool = False
    """End with the checkpoint that evaluated best."""
    metric_for_best_model: str | None = None
    """Metric that decides which checkpoint is best. Default: eval_loss."""
    greater_is_better: bool | None = None
    """Whether that metric should be large."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """One way to say when, and something to evaluate."""
        if not self.save_safetensors:
            yield cfg.problem("save_safetensors", "false is not possible: pickle files can run code.", "Remove it.")
        yield from _one_way(cfg, "eval", self.eval_steps, self.evals_per_epoch, self.eval_strategy)
        yield from _one_way(cfg, "save", self.save_steps, self.saves_per_epoch, self.save_strategy)
        if not cfg[Data].has_eval and not cfg.value("do_bench_eval"):
            if self.eval_steps or self.eval_strategy in ("epoch", "steps"):
                key = "eval_steps" if self.eval_steps else "eval_strategy"
                yield cfg.problem(key, "there is nothing to evaluate.", "Set val_set_size or test_datasets.")
            if self.evals_per_epoch:
                message = "has no effect: there is nothing to evaluate."
                yield cfg.problem("evals_per_epoch", message, "Set val_set_size or test_datasets.", kind="warning")
        if self.save_strategy == "best" and not self.metric_for_best_model:
            yield cfg.problem("save_strategy", "best needs metric_for_best_model.", "For example eval_loss.")
        if self.load_best_model_at_end and not cfg[Data].has_eval:
            yield cfg.problem("load_best_model_at_end", "there is nothing to evaluate.", "Set val_set_size.")
        elif self.load_best_model_at_end and not self._evaluates_what_it_saves():
            hint = "Make the saves a part of the evaluations, or leave out when to save."
            yield cfg.problem("load_best_model_at_end", "not every checkpoint would be evaluated.", hint)

    def _evaluates_what_it_saves(self) -> bool:
        """Whether each checkpoint falls on an evaluation, as far as the keys alone tell."""
        if "no" in (self.save_strategy, self.eval_strategy):
            return False
        if not (self.save_strategy or self.save_steps or self.saves_per_epoch) or self.save_strategy == "best":
            return True
        if self.eval_steps and self.save_steps:
            return self.save_steps % self.eval_steps == 0
        if self.eval_steps or self.save_steps:
            return self.eval_strategy != "no" and not (self.evals_per_epoch == 1 or self.saves_per_epoch == 1)
        return (self.evals_per_epoch or 1) % (self.saves_per_epoch or 1) == 0


def _one_way(
    cfg: Config, what: str, steps: float | None, per_epoch: int | None, strategy: str | None
) -> Iterable[Problem]:
    if steps and per_epoch:
        yield cfg.problem((f"{what}s_per_epoch", f"{what}_steps"), f"cannot be used with {what}_steps.", "Remove one.")
    if (steps or per_epoch) and strategy not in (None, "steps"):
        key = f"{what}_steps" if steps else f"{what}s_per_epoch"
        yield cfg.problem(
            (f"{what}_strategy",),
            f"{strategy} cannot be used with {key}.",
            f"Remove one, or set {what}_strategy: steps.",
        )


class Loader(Section):
    """How batches reach the device."""

    accelerator_config: Accelerator | None = None
    """How processes share batches."""
    remove_unused_columns: bool | None = None
    """Accepted for compatibility: Newt reads the columns that it needs and no others."""
    dataloader_num_workers: NonNegativeInt | None = None
    """Worker processes. Default 0 on a CPU, else the number of GPUs."""
    dataloader_pin_memory: bool | None = None
    """Copy batches into pinned memory. Default: on with a GPU."""
    dataloader_prefetch_factor: PositiveInt | None = None
    """Batches that a worker prepares ahead."""
    dataloader_drop_last: bool = False
    """Drop the last, smaller batch of an epoch."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """What ``accelerator_config`` asks for."""
        if self.accelerator_config is not None:
            yield from self.accelerator_config.problems(cfg)


SECTIONS: tuple[type[Section], ...] = (Model, Template, Data, Objective, Batch, RunControl, Plugins, Cadence, Loader)
"""The core sections in the order of the documentation."""
