"""Energy-based fine-tuning: answers are rewarded for resembling the true one in the model's own features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.section import Problem, Section
from newt.extend import Method


class EbftConfig(Section):
    """``ebft``: how answers are sampled and compared."""

    mode: Literal["structured", "strided"] = "structured"
    """Prompts with a true answer, sampled with vLLM; or blocks of long texts, sampled by the model itself."""
    feature_layers: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Depths of the layers whose states are compared: 0 is the first, 1 the last."""
    embed_method: Literal["last_token", "mean_pooling", "completion_mean", "concat"] = "last_token"
    """How the states of an answer become one vector."""
    use_whitening: bool = False
    """Remove the correlations of the vectors."""
    alignment_coef: float = 1.0
    """Weight of the similarity to the true answer."""
    diversity_coef: float = 1.0
    """Weight of the similarity between sampled answers, which is subtracted."""
    ce_coef: float = Field(default=0.0, ge=0)
    """Weight of the cross-entropy of the true answer."""
    rl_coef: float = Field(default=1.0, ge=0)
    """Weight of the policy gradient."""
    adaptive_max_tokens: bool = True
    """Limit each answer by the length of the true one."""
    gt_length_multiplier: float = Field(default=1.5, gt=0)
    """Longest answer, in lengths of the true one."""
    stride: PositiveInt = 8
    """Tokens between two blocks of a text."""
    context_length: PositiveInt = 8
    """Tokens that a block sees."""
    generate_max_len: PositiveInt = 8
    """Tokens that are sampled in a block."""
    n_samples_per_prompt: PositiveInt = 4
    """Answers to each prompt."""
    temperature: float = Field(default=0.6, gt=0)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    advantage_estimator: Literal["rloo", "group_norm", "reinforce"] = "rloo"
    """What an answer's reward is compared with."""
    min_completion_prefix: NonNegativeInt = 0
    """Tokens of the true answer that a block has at least before it."""


class EbftSettings(Section):
    """Keys of energy-based fine-tuning."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    ebft: EbftConfig | None = None
    """How answers are sampled and compared."""


class Ebft(Method):
    """Policy gradient with rewards from features."""

    name = "ebft"
    Settings = (EbftSettings,)
    rows = "supervised"
    chosen_by: ClassVar = {"rl": ("ebft",)}
    off = "rl is not ebft"

    def check(self) -> Iterable[Problem]:
        """The block, something to compare with, and what block sampling cannot do."""
        yield self.not_yet("rl", "ebft")
        block = self.cfg[EbftSettings].ebft
        if block is None:
            yield self.problem(("ebft", "rl"), "is missing.", "For example ebft: {mode: structured}.")
            return
        if not all(0 <= depth <= 1 for depth in block.feature_layers) or not block.feature_layers:
            yield self.problem("ebft.feature_layers", "must be a list of depths between 0 and 1.")
        if block.advantage_estimator != "reinforce" and block.n_samples_per_prompt < 2:
            message = f"must be at least 2 with advantage_estimator: {block.advantage_estimator}."
            yield self.problem("ebft.n_samples_per_prompt", message)
        if block.mode == "strided":
            yield from self._check_strided()

    def _check_strided(self) -> Iterable[Problem]:
        checkpointing = self.cfg.value("gradient_checkpointing")
        flex = self.cfg.value("attn_implementation") == "flex_attention" or self.cfg.value("flex_attention")
        if checkpointing and self.cfg.value("torch_compile") is True:
            message = "cannot be used with ebft.mode: strided and gradient_checkpointing."
            yield self.problem(("torch_compile", "ebft.mode"), message, "Remove one.")
        offloaded = self.cfg.value("activation_offloading") or checkpointing in ("offload", "offload_disk")
        if flex and offloaded:
            message = "cannot be used with ebft.mode: strided and flex attention."
            yield self.problem(("activation_offloading", "gradient_checkpointing"), message, "Remove one.")
        kwargs = self.cfg.value("gradient_checkpointing_kwargs") or {}
        if flex and checkpointing and kwargs.get("use_reentrant") is False:
            message = "ebft.mode: strided with flex attention needs use_reentrant: true."
            yield self.problem("gradient_checkpointing_kwargs", message, "Set it.")
