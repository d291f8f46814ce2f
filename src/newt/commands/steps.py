"""Steps that several commands share: from a run to its tokenizer, data, model and trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from newt.commands.options import Debug
from newt.config.core import RunControl, Template
from newt.run import Run

if TYPE_CHECKING:
    from newt.data.prepare import Datasets
    from newt.data.streamed import StreamedDatasets
    from newt.extend import FirstBatches


def open_tokenizer(run: Run) -> Any:
    """Load the tokenizer with the chat template that the run trains with, so that it is saved with the model."""
    from newt.data.template import resolve_template
    from newt.models.tokenizer import load_tokenizer, uses_mistral_common

    tokenizer = load_tokenizer(run.cfg)
    if uses_mistral_common(run.cfg):
        return tokenizer  # it needs no template
    chat = [fmt.entry for fmt in (*run.formats, *run.eval_formats) if fmt.name == "chat_template"]
    if chat or run.cfg[Template].chat_template:
        tokenizer.chat_template = resolve_template((chat or [fmt.entry for fmt in run.formats])[0], run.cfg, tokenizer)
    return tokenizer


def say_examples(run: Run, debug: Debug) -> None:
    """Print the first tokenized rows, as the debug options ask: which tokens are trained, why, and their ids."""
    if not debug.examples:
        return
    import sys

    from newt.data.look import explain_rows
    from newt.report.terminal import show_rows
    from newt.support.log import say

    for row in explain_rows(run.data_plan(), open_tokenizer(run), debug.examples):
        say(show_rows([row], color=sys.stdout.isatty()).rstrip("\n"))
        if not debug.text_only:
            say("token(label, id): " + " ".join(f"{text!r}({label}, {id_})" for text, id_, label, *_ in row["tokens"]))


def prepare_data(
    run: Run, *, force: bool = False, explain: Callable[[str], None] | None = None
) -> tuple[Any, Datasets | StreamedDatasets]:
    """Tokenizer and token rows of a run."""
    from newt.data.prepare import prepare
    from newt.data.streamed import prepare_streamed

    tokenizer = open_tokenizer(run)
    plan = run.data_plan()
    if plan.stream:
        return tokenizer, prepare_streamed(plan, tokenizer, force=force, explain=explain)
    return tokenizer, prepare(plan, tokenizer, force=force, explain=explain)


def rows_for_adapter(run: Run, tokenizer: Any, data: Any, checkpoint: Path | None = None) -> FirstBatches | None:
    """Training data for an adapter that begins from them; None for a run without one.

    Args:
        run: the run.
        tokenizer: its tokenizer.
        data: its prepared training rows.
        checkpoint: folder that the run goes on from.
    """
    from newt.training.first_batches import first_batches

    if not run.load_plan().adapter_of_data:
        return None
    return first_batches(run.train_plan(), run.data_plan(), tokenizer, data, checkpoint)


def trained_in(run: Run) -> Path | None:
    """The folder of the run's trained adapter or model: ``lora_model_dir``, else ``output_dir`` if it holds one."""
    from newt.features.lora import LoraSettings

    given = run.cfg[LoraSettings].lora_model_dir
    folder = Path(given or run.cfg[RunControl].output_dir)
    name = "adapter_config.json" if run.cfg[LoraSettings].adapter else "config.json"
    return folder if (folder / name).is_file() else None
