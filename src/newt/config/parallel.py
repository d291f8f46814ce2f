"""Keys that say how a run is spread over devices. Many Parts have rules about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section

StateDictType = Literal["FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"]


class FsdpConfig(Section):
    """``fsdp_config``: how fully sharded data parallelism works. Older files write ``fsdp_`` before each key."""

    version: int | None = Field(default=None, ge=1, le=2)
    """1 or 2; another place for ``fsdp_version``."""
    activation_checkpointing: bool | None = None
    """Recompute activations in each wrapped layer. Not together with ``gradient_checkpointing``."""
    offload_params: bool | None = None
    """Keep parameters, gradients and optimizer state in the CPU's memory."""
    cpu_offload_pin_memory: bool | None = None
    """Pin that memory. ``false`` lets it be swapped out (version 2, with ``offload_params``)."""
    cpu_ram_efficient_loading: bool | None = None
    """Only the first process of a machine reads the weights."""
    state_dict_type: StateDictType | None = None
    """Form of the checkpoints: whole, or one shard for each process."""
    final_state_dict_type: StateDictType | None = None
    """Form of the final model."""
    auto_wrap_policy: Literal["TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP"] | None = None
    """Which modules become a unit of sharding."""
    transformer_layer_cls_to_wrap: str | tuple[str, ...] | None = None
    """Class name of the layers, for TRANSFORMER_BASED_WRAP. Default: what the model says."""
    min_num_params: PositiveInt | None = None
    """Smallest unit in parameters, for SIZE_BASED_WRAP."""
    reshard_after_forward: bool | str | None = None
    """Free the gathered parameters after the forward pass (version 2). Default true."""
    mixed_precision_policy: dict[str, Any] | str | None = None
    """Number formats of parameters and of the reduction (version 2)."""
    use_orig_params: bool | None = None
    """Keep the original parameters visible (version 1)."""
    sync_module_states: bool | None = None
    """Send the first process's weights to the others (version 1)."""
    sharding_strategy: str | int | None = None
    """What is sharded (version 1). Version 2: ``reshard_after_forward``."""
    backward_prefetch: str | None = None
    """When the next layer's parameters are gathered in the backward pass (version 1)."""
    backward_prefetch_policy: str | None = None
    """The same."""
    forward_prefetch: bool | None = None
    """Gather the next layer's parameters ahead in the forward pass (version 1)."""
    limit_all_gathers: bool | None = None
    """Wait between gathers (version 1)."""


class Fsdp(Section):
    """Fully sharded data parallelism."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    fsdp: tuple[str, ...] | str | None = None
    """Older switch, such as ``[full_shard, auto_wrap]``. Today ``fsdp_config`` alone switches it on."""
    fsdp_config: FsdpConfig | None = None
    """Shard parameters, gradients and optimizer state over the devices."""
    fsdp_version: int | None = Field(default=None, ge=1, le=2)
    """2 is today's; 1 is the default for older files."""
    fsdp_final_state_dict_type: StateDictType | None = None
    """Older place of ``fsdp_config.final_state_dict_type``."""

    @property
    def on(self) -> bool:
        """Whether the config asks for FSDP."""
        return bool(self.fsdp) or bool(self.options.model_fields_set)

    @property
    def options(self) -> FsdpConfig:
        """``fsdp_config``, or an empty one."""
        return self.fsdp_config or FsdpConfig()

    @property
    def version(self) -> int | None:
        """1 or 2; None when FSDP is off."""
        return (self.fsdp_version or self.options.version or 1) if self.on else None


class Deepspeed(Section):
    """DeepSpeed."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    deepspeed: str | dict[str, Any] | None = None
    """DeepSpeed's own config: a JSON file, or the mapping itself."""
    deepcompile: bool = False
    """Let DeepSpeed compile the model."""


class Mesh(Section):
    """Sizes of the device mesh; their product is the number of processes."""

    dp_replicate_size: NonNegativeInt | None = None
    """Copies of the (sharded) model that see different data."""
    dp_shard_size: NonNegativeInt | None = None
    """Devices over which one copy is sharded. Default: all that the other sizes leave."""
    context_parallel_size: NonNegativeInt | None = None
    """Devices that share one sequence. Also written ``sequence_parallel_degree``."""
    tensor_parallel_size: NonNegativeInt | None = None
    """Devices that share each matrix."""

    @property
    def context(self) -> int:
        """Devices that share one sequence, at least 1."""
        return self.context_parallel_size or 1

    @property
    def tensor(self) -> int:
        """Devices that share each matrix, at least 1."""
        return self.tensor_parallel_size or 1

    def data_groups(self, world: int) -> int:
        """Groups of devices that see different data."""
        return max(1, world // (self.context * self.tensor))

    def check(self, cfg: Config) -> Iterable[Problem]:
        """Replicas alone cannot be combined with tensor or context parallelism."""
        if (self.dp_replicate_size or 1) > 1 and (self.dp_shard_size or 1) == 1 and self.context * self.tensor > 1:
            other = "tensor_parallel_size" if self.tensor > 1 else "context_parallel_size"
            yield cfg.problem(
                ("dp_replicate_size", other),
                f"cannot be used alone with {other}.",
                "Set dp_shard_size above 1 as well.",
            )
