"""newt import-gguf: make a model folder that can be trained from a GGUF file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import-gguf")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.gguf")
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Number type of the weights. float32 keeps every bit of the file.",
)
def command(file: Path, out_dir: Path, dtype: str) -> None:
    """Unpack FILE.gguf into the model folder OUT_DIR: weights, config, tokenizer and chat template."""
    from newt.models.gguf import import_gguf
    from newt.support.log import note, say

    found = import_gguf(file, out_dir, dtype, progress=note)
    for line in found.notes:
        note(line)
    say(
        f"{found.folder} holds a {found.model_type} model with {found.parameters / 1e6:.1f} million parameters and "
        f"{found.tokens} tokens. Train it with base_model: {found.folder}"
    )
