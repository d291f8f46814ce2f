"""Tracking with TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from newt.config.section import Config, Section
from newt.training.trackers import TrackedRun, Tracker, TrackerFeature, grouped


class TensorboardSettings(Section):
    """The key of TensorBoard."""

    use_tensorboard: bool | None = None
    """Write event files into ``runs`` in ``output_dir``."""


class Tensorboard(TrackerFeature):
    """Writes them."""

    name = "tensorboard"
    Settings = (TensorboardSettings,)
    keys = ("use_tensorboard",)
    packages = ("tensorboard",)
    extra = "tensorboard"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[TensorboardSettings].use_tensorboard)

    def tracker(self) -> Tracker:
        """The tracker of these settings."""
        return _Tensorboard()


class _Tensorboard(Tracker):
    name = "TensorBoard"
    writer: Any

    def start(self, run: TrackedRun) -> str | None:
        from torch.utils.tensorboard import SummaryWriter

        # The points after the step that a run goes on from are hidden: they come again.
        purge = run.from_step + 1 if run.from_step else None
        self.writer = SummaryWriter(str(run.output_dir / "runs"), purge_step=purge)
        self.writer.add_text("config", f"```yaml\n{run.config_file.read_text(encoding='utf-8')}\n```", run.from_step)
        return None

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in grouped(values).items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        for number, row in enumerate(rows):
            text = "\n\n".join(f"**{key}**\n\n```\n{value}\n```" for key, value in row.items())
            self.writer.add_text(f"{name}/{number}", text, step)

    def finish(self, ok: bool) -> None:
        self.writer.close()
