"""MLPs in tiles along the sequence: less memory for very long rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan


class TiledMlpSettings(Section):
    """Keys of tiled MLPs."""

    tiled_mlp: bool | None = None
    """Compute each MLP in tiles along the sequence."""
    tiled_mlp_num_shards: PositiveInt | None = None
    """Number of tiles. Default: one for each 32,768 tokens."""
    tiled_mlp_use_original_mlp: bool = True
    """Run the model's own MLP on each tile; ``false``: ``down(act(gate(x)) * up(x))`` of its modules, where that is
    the same."""


class TiledMlp(Feature):
    """Tiles the MLPs."""

    name = "tiled mlp"
    Settings = (TiledMlpSettings,)
    off = "tiled_mlp is not on"
    switches = ("tiled_mlp",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[TiledMlpSettings].tiled_mlp)

    def check(self) -> Iterable[Problem]:
        """One replacement of the MLP."""
        settings = self.cfg[TiledMlpSettings]
        if self.cfg.value("liger_glu_activation") and not settings.tiled_mlp_use_original_mlp:
            message = "cannot be used with liger_glu_activation: both replace the MLP."
            yield self.problem(
                ("tiled_mlp", "liger_glu_activation"), message, "Set tiled_mlp_use_original_mlp: true, or remove one."
            )

    def plan_load(self, plan: LoadPlan) -> None:
        """Tile the MLPs of the finished model."""
        settings = self.cfg[TiledMlpSettings]
        tiles, own = settings.tiled_mlp_num_shards, settings.tiled_mlp_use_original_mlp

        def tile(model: Any) -> None:
            from newt.models.tiled import tile_mlps

            tile_mlps(model, tiles, own=own)

        plan.prepare.append(tile)
