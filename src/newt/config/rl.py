"""Sections of preference and reinforcement learning that more than one method reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section


class Objective(Section):
    """What is optimised, where it is not the next token."""

    rl: Literal["dpo", "ipo", "simpo", "kto", "orpo", "grpo", "gdpo", "ebft"] | None = None
    """Preference or reinforcement method. Default: none, supervised fine-tuning."""
    reward_model: bool = False
    """Train a model that gives an answer a reward, from pairs of answers (Bradley-Terry)."""
    process_reward_model: bool = False
    """Train a model that judges each step of an answer."""
    num_labels: PositiveInt | None = None
    """Numbers that the head of a reward model gives. Default: 1, or 2 for each step."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """One objective only."""
        wanted = [key for key in ("rl", "reward_model", "process_reward_model") if getattr(self, key)]
        if len(wanted) > 1:
            yield cfg.problem(tuple(wanted[::-1]), f"cannot be used with {' and '.join(wanted[:-1])}.", "Keep one.")
        if wanted and "pretraining_dataset" in cfg.given:
            yield cfg.problem(("pretraining_dataset", *wanted), f"cannot be used with {wanted[0]}.", "Remove one.")
        if self.num_labels and not (self.reward_model or self.process_reward_model):
            message = "has no effect: neither reward_model nor process_reward_model is on."
            yield cfg.problem("num_labels", message, "Remove it, or switch one on.")


class Trl(Section):
    """``trl``: sampling, rewards and loss of online methods."""

    beta: float | None = Field(default=None, ge=0)
    """Strength of the pull towards the reference model. Wins over ``rl_beta``."""
    max_completion_length: PositiveInt | None = None
    """Longest sampled answer in tokens."""
    use_vllm: bool = False
    """Sample with vLLM instead of the trained model itself."""
    vllm_mode: Literal["server", "colocate"] | None = None
    """``server``: a vLLM server of its own (the default); ``colocate``: vLLM on the training GPUs."""
    vllm_server_host: str = "0.0.0.0"
    """Host of the vLLM server."""
    vllm_server_port: PositiveInt = 8000
    """Port of the vLLM server."""
    vllm_server_timeout: float | None = Field(default=None, gt=0)
    """Seconds to wait for the vLLM server."""
    vllm_guided_decoding_regex: str | None = None
    """Regular expression that every sampled answer must match."""
    reward_funcs: str | tuple[str, ...] | None = None
    """What rewards an answer: dotted names of functions, or folders and Hub ids of reward models."""
    reward_weights: tuple[float, ...] | None = None
    """Weight of each reward. Default: 1 for each."""
    num_generations: PositiveInt | None = None
    """Answers that are sampled for one prompt and compared with each other."""
    log_completions: bool = False
    """Log some sampled answers with their rewards."""
    num_completions_to_print: PositiveInt | None = None
    """How many of them. Default: all."""
    importance_sampling_level: Literal["sequence", "token"] | None = None
    """Weight each token by its own ratio, or the whole sequence by one (GSPO). Default: token."""
    sync_ref_model: bool = False
    """Let the reference model follow the policy."""
    ref_model_mixup_alpha: float = Field(default=0.9, ge=0, le=1)
    """Share of the policy when the reference model is moved."""
    ref_model_sync_steps: PositiveInt = 64
    """Steps between two such moves."""
    scale_rewards: bool | Literal["group", "batch", "none"] = True
    """Divide advantages by the standard deviation of the rewards, within each group or within the batch."""
    temperature: float | None = Field(default=None, gt=0)
    """Sampling temperature."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    top_k: int | None = Field(default=None, ge=-1)
    """Sample from this many of the likeliest tokens; 0 or -1: from all."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Drop tokens less likely than this share of the likeliest one's probability."""
    repetition_penalty: float | None = Field(default=None, gt=0)
    """Make tokens that occurred already less likely (above 1) or likelier (below 1)."""
    num_iterations: PositiveInt | None = None
    """Optimizer passes over each batch of sampled answers."""
    epsilon: float | None = Field(default=None, ge=0)
    """How far the probability ratio may fall below 1 (and rise above it) before it is clipped."""
    epsilon_high: float | None = Field(default=None, ge=0)
    """Another limit for the rise (DAPO). Default: as ``epsilon``."""
    use_liger_loss: bool | None = None
    """Compute the loss together with the output layer, in a kernel of Liger."""
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"] | None = None
    """By what the token losses are divided, or another form of the loss."""
    mask_truncated_completions: bool = False
    """Leave out answers that were cut at ``max_completion_length``."""
    vllm_enable_sleep_mode: bool | None = None
    """Free vLLM's GPU memory while the model is trained (``colocate``)."""
    generation_batch_size: PositiveInt | None = None
    """Answers that are sampled at once. Default: those of one optimizer step on all devices."""
    generation_kwargs: dict[str, Any] | None = None
    """Further sampling arguments."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables for the chat template when prompts are rendered."""
    rollout_func: str | None = None
    """Dotted name of a function that samples in its own way."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] | None = None
    """Add the rewards and normalize their sum, or normalize each and add (GDPO)."""
    use_data_producer: bool = False
    """Sample in a process of its own."""
    async_prefetch: bool = False
    """Sample the next batches while this one is trained."""
    prefetch_depth: PositiveInt | None = None
    """Batches that are sampled ahead."""
    vllm_sync_interval: PositiveInt | None = None
    """Optimizer steps between two updates of vLLM's weights."""
    streaming_partial_batch: bool | None = None
    """Train on groups as soon as they are scored."""
    streaming_min_groups: PositiveInt | None = None
    """Groups that such a partial batch has at least."""
    vllm_importance_sampling_correction: bool | None = None
    """Correct the loss for the difference between vLLM's and the model's probabilities."""
    vllm_importance_sampling_mode: (
        Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None
    ) = None
    """Correct by token or by sequence, and cut or leave out ratios above the cap."""
    vllm_importance_sampling_cap: float | None = Field(default=None, gt=0)
    """Largest such ratio."""
    off_policy_mask_threshold: float | None = Field(default=None, gt=0)
    """Leave out sequences that are further than this from the policy."""
    use_bias_correction_kl: bool | None = None
    """Correct the estimate of the divergence from the reference by the importance ratio."""
    reward_num_workers: PositiveInt = 1
    """Processes that compute rewards."""
    replay_buffer_size: NonNegativeInt = 0
    """Groups with a wide spread of rewards that are kept to be trained again. 0: none."""
    replay_recompute_logps: bool = True
    """Compute the probabilities of replayed answers anew."""
    reroll_start_fraction: float = Field(default=1.0, ge=0, le=1)
    """Share of the run after which prompts without a signal are sampled again."""
    reroll_max_groups: NonNegativeInt = 1
    """Groups that are sampled again in one step, at most."""
    skip_zero_advantage_batches: bool = True
    """Skip micro-batches in which every advantage is 0."""
    vllm_lora_sync: bool = False
    """Send vLLM the adapter instead of merged weights."""

    @property
    def rewards(self) -> tuple[str, ...]:
        """Names of the reward functions."""
        return (self.reward_funcs,) if isinstance(self.reward_funcs, str) else self.reward_funcs or ()


class Vllm(Section):
    """``vllm``: the server that ``newt vllm-serve`` starts."""

    device: str = "auto"
    """Device of the server."""
    tensor_parallel_size: PositiveInt | None = None
    """GPUs that share each layer."""
    data_parallel_size: PositiveInt | None = None
    """Copies of the model."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU memory that vLLM takes."""
    dtype: str = "auto"
    """Number type of the weights."""
    max_model_len: PositiveInt | None = None
    """Longest prompt and answer together, in tokens."""
    enable_prefix_caching: bool | None = None
    """Keep the states of prompts that begin alike."""
    host: str = "0.0.0.0"
    """Address that the server listens on."""
    port: PositiveInt = 8000
    """Port that the server listens on."""
    enable_reasoning: bool | None = None
    """Take reasoning out of the answers."""
    reasoning_parser: str | None = None
    """Which parser finds the reasoning."""
    enforce_eager: bool | None = None
    """Do not capture CUDA graphs."""
    serve_module: str | None = None
    """Python module of another server."""
    worker_extension_cls: str | None = None
    """Dotted name of the class that receives new weights in the server."""


class Reinforcement(Section):
    """Keys of every ``rl`` method."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    rl_beta: float | None = Field(default=None, ge=0)
    """Strength of the pull towards the reference model. Default: that of the method."""
    rl_adapter_ref_model: bool | None = None
    """With an adapter: load a second model as reference instead of switching the adapter off."""
    max_prompt_len: PositiveInt | None = None
    """Longest prompt in tokens."""
    trl: Trl | None = None
    """Sampling, rewards and loss of online methods."""
    vllm: Vllm | None = None
    """The vLLM server that samples answers."""
