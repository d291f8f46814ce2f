"""newt merge-lora: put the adapter into the weights of the base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from newt.commands.options import config_command


@config_command("merge-lora")
@click.option("--lora-model-dir", type=click.Path(path_type=Path), help="Folder of the adapter. Default: output_dir.")
@click.option("--merged-dir", type=click.Path(path_type=Path), help="Where to write. Default: output_dir/merged.")
def command(config: str, overrides: dict[str, Any], lora_model_dir: Path | None, merged_dir: Path | None) -> None:
    """Merge the adapter into the base model, reload the result and compare it."""
    from newt.commands.shared import open_run
    from newt.support.log import note, say

    report = merge(open_run(config, overrides, data=False), adapter=lora_model_dir, target=merged_dir)
    say(
        f"Merged {report.merged} of {report.adapted} adapted weights. Largest difference between the merged model and "
        f"base + adapter: {report.max_difference:.2g} (allowed: {report.tolerance:.2g})"
    )
    for line in report.notes:
        note(line)
    say(f"The merged model is in {report.output_dir}")


def merge(run: Any, *, adapter: Path | None = None, target: Path | None = None) -> Any:
    """Merge the adapter of a run; see ``models.merge.merge_lora``."""
    from newt.commands.steps import trained_in
    from newt.config.core import RunControl
    from newt.features.lora import LoraSettings
    from newt.models.merge import merge_lora
    from newt.support.errors import NewtError

    output_dir = Path(run.cfg[RunControl].output_dir)
    folder = adapter or trained_in(run)
    if folder is None:
        raise NewtError(f"There is no adapter in {output_dir}: train first, or name its folder with --lora-model-dir")
    method = run.cfg[LoraSettings].merge_method
    return merge_lora(run.cfg, folder, target or output_dir / "merged", method=method)
