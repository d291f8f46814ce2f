"""Group relative policy optimization (https://arxiv.org/abs/2402.03300) and its variant GDPO."""

from __future__ import annotations

from collections.abc import Iterable
from math import lcm
from typing import ClassVar

from newt.config.core import Batch, Objective
from newt.config.rl import Reinforcement, Trl
from newt.config.section import Problem
from newt.extend import Method


class Grpo(Method):
    """Samples a group of answers to each prompt and moves towards those that are rewarded above the group's mean."""

    name = "grpo"
    rows = "prompts"
    chosen_by: ClassVar = {"rl": ("grpo", "gdpo")}

    @property
    def trl(self) -> Trl:
        """The block ``trl``."""
        return self.cfg[Reinforcement].trl or Trl()

    def check(self) -> Iterable[Problem]:
        """Rewards, whole groups, and options that go together."""
        rl = str(self.cfg[Objective].rl)
        yield self.not_yet("rl", rl)
        yield from self._check_rewards()
        yield from self._check_groups()
        if rl == "gdpo" and self.trl.multi_objective_aggregation == "sum_then_normalize":
            message = "sum_then_normalize cannot be used with rl: gdpo."
            yield self.problem("trl.multi_objective_aggregation", message, "Remove it, or set rl: grpo.")
        if (self.cfg.value("context_parallel_size") or 1) > 1:
            for key in ("use_liger_loss", "async_prefetch", "use_data_producer"):
                if getattr(self.trl, key):
                    yield self.problem(f"trl.{key}", "cannot be used with context_parallel_size.", "Remove one.")
        if self.trl.use_vllm and self.trl.vllm_mode is None:
            message = "is not set: server is used."
            yield self.problem(("trl.vllm_mode", "trl.use_vllm"), message, "Set server or colocate.", "warning")

    def _check_rewards(self) -> Iterable[Problem]:
        rewards, weights = self.trl.rewards, self.trl.reward_weights
        if not rewards and not self.trl.rollout_func:
            message = "is missing: nothing would be rewarded."
            yield self.problem(("trl.reward_funcs", "rl"), message, "Name functions, such as rewards.length.")
        elif weights is not None and len(weights) != len(rewards):
            message = f"needs one weight for each of trl.reward_funcs: {len(rewards)}, got {len(weights)}."
            yield self.problem(("trl.reward_weights", "trl.reward_funcs"), message)

    def _check_groups(self) -> Iterable[Problem]:
        group, batch = self.trl.num_generations, self.cfg[Batch]
        if group is None:
            return
        if group < 2:
            message = "must be at least 2: an answer is compared with the others of its group."
            yield self.problem("trl.num_generations", message)
            return
        world = max(1, self.facts.gpus) if self.facts.known else 1
        own = self.trl.generation_batch_size
        size = own or batch.micro * batch.accumulation
        if size % group == 0 and (world == 1 or size >= group * world):
            return
        wanted = f"whole groups of {group}" + (f", one for each of {world} GPUs" if world > 1 else "")
        whole = lcm(batch.micro, group)
        answers = -(-group * world // whole) * whole
        if own:
            keys = ("trl.generation_batch_size", "trl.num_generations")
            enough = max(-(-own // group), world) * group
            yield self.problem(keys, f"{own} answers do not make {wanted}.", f"Set {enough}.")
        else:
            message = f"micro_batch_size and gradient_accumulation_steps give {size} answers: not {wanted}."
            hint = f"Set gradient_accumulation_steps: {answers // batch.micro}."
            yield self.problem(("trl.num_generations", "gradient_accumulation_steps"), message, hint)
