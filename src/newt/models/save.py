"""Write a model so that a reader never finds half of one."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from newt.config.section import Config
from newt.models.adapter_files import write_base
from newt.models.load import read_config
from newt.models.portable import make_portable
from newt.models.quantize import write_record
from newt.models.quiet import quiet
from newt.models.tokenizer import save_tokenizer
from newt.support.files import atomic_dir

LAST = ("config.json", "adapter_config.json")
"""A folder counts as a model once it has one of these, so they get their names last."""


def save_final(model: Any, tokenizer: Any, folder: Path | str, cfg: Config) -> None:
    """Write the adapter (or the whole model), the tokenizer with its chat template, and the generation config.

    The folder may hold other things, such as checkpoints: files of the same names are replaced one by one, each whole.

    Args:
        model: a transformers model, or peft's wrapper.
        tokenizer: its tokenizer.
        folder: output folder, made if it is missing.
        cfg: the config; names the base model.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    waiting = folder / ".saving"
    with atomic_dir(waiting) as temporary, quiet():
        _write(model, tokenizer, temporary, cfg)
    _move(waiting, folder)
    waiting.rmdir()


def _write(model: Any, tokenizer: Any, folder: Path, cfg: Config) -> None:
    use_cache = model.config.use_cache
    model.config.use_cache = True  # switched off for training only
    try:
        if hasattr(model, "peft_config"):
            with warnings.catch_warnings():  # that embeddings are saved, which is what we asked for
                warnings.simplefilter("ignore")
                model.save_pretrained(folder, save_embedding_layers=_saves_embeddings(model, cfg))
            (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
            write_beside(model, folder)
        else:
            model.save_pretrained(folder)
    finally:
        model.config.use_cache = use_cache
    save_tokenizer(tokenizer, folder, cfg)


def write_beside(model: Any, folder: Path) -> None:
    """Let an adapter fit the base as it is on disk, and write what a merge must know of that: how it was held in few
    bits, and what its config said.

    Args:
        model: peft's wrapper; nothing is written for a bare model.
        folder: holds the adapter.
    """
    if hasattr(model, "peft_config"):
        make_portable(model, folder)
        write_record(model.get_base_model(), folder)
        write_base(model.get_base_model(), folder)


def _saves_embeddings(model: Any, cfg: Config) -> bool | str:
    """Rows that were added to the embedding belong to the adapter: the base model does not have them.

    peft's own test asks the Hub and assumes the best when it gets no answer.
    """
    base = model.get_base_model()
    ends = [end for end in (base.get_input_embeddings(), base.get_output_embeddings()) if end is not None]
    rows = ends[0].weight.shape[0]
    if rows == read_config(cfg).get_text_config().vocab_size:
        return "auto"
    # Modules that are trained in full are saved anyway; to ask for them again would save them three times.
    return not all(hasattr(end, "modules_to_save") or _is_saved_in_full(base, end) for end in ends)


def _is_saved_in_full(base: Any, end: Any) -> bool:
    return any(
        module is end and ".modules_to_save." in f".{name}."
        for name, module in base.named_modules(remove_duplicate=False)
    )


def _move(source: Path, folder: Path) -> None:
    """Put the new files in the place of the old ones; in between the folder has no config, so it is no model."""
    names = sorted((path.name for path in source.iterdir()), key=lambda name: (name in LAST, name))
    for name in LAST:
        (folder / name).unlink(missing_ok=True)
    for stale in (*folder.glob("model*.safetensors*"), *folder.glob("adapter_model*.safetensors*")):
        if stale.name not in names:
            stale.unlink()
    for name in names:
        os.replace(source / name, folder / name)
