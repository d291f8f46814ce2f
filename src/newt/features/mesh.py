"""The device mesh: replicas, shards, context parallelism and tensor parallelism."""

from __future__ import annotations

import math
from collections.abc import Iterable

from newt.config.parallel import Mesh as MeshSettings
from newt.config.section import Config, Problem
from newt.extend import Feature
from newt.support import env


class Mesh(Feature):
    """Arranges the devices."""

    name = "device mesh"
    Settings = (MeshSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one of the sizes is above 1."""
        return any((getattr(cfg[MeshSettings], key) or 1) > 1 for key in MeshSettings.model_fields)

    def check(self) -> Iterable[Problem]:
        """Sizes that fit the processes, and companions of tensor parallelism."""
        settings = self.cfg[MeshSettings]
        sizes = {key: getattr(settings, key) or 1 for key in MeshSettings.model_fields}
        for key, size in sizes.items():
            if size > 1:
                yield self.not_yet(key, str(size))
        world = env.world_size()
        product = math.prod(sizes.values())
        written = tuple(key for key, size in sizes.items() if size > 1)
        fits = product == world if settings.dp_shard_size else world % product == 0
        if world > 1 and not fits:
            sums = " x ".join(f"{key} {sizes[key]}" for key in written)
            yield self.problem(written, f"{sums} = {product} does not fit {world} processes.")
        if settings.tensor > 1:
            yield from self._check_tensor()

    def _check_tensor(self) -> Iterable[Problem]:
        optimizer = str(self.cfg.value("optimizer"))
        if optimizer.replace("_", "").endswith("8bit") and "torch" not in optimizer:
            keys = ("optimizer", "tensor_parallel_size")
            yield self.problem(keys, f"{optimizer} cannot be used with tensor_parallel_size.", "Use adamw_torch.")
        if optimizer == "polora":
            yield self.problem(
                ("optimizer", "tensor_parallel_size"), "polora cannot be used with tensor_parallel_size."
            )
