"""What of a model is trained: a table by kind of module, to read and to keep."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from newt.models.freezing import trained_size
from newt.models.kbit import format_of, size_of
from newt.support.files import write_atomically

JSON, TEXT = "trained_parameters.json", "trained_parameters.txt"


@dataclass
class TrainedRow:
    """One kind of module, over all layers.

    Attributes:
        module: last part of the modules' names without an adapter's own parts, such as ``q_proj``.
        modules: how many there are.
        trained: trained parameters.
        total: all parameters; shared ones count once.
        dtype: number type of the trained ones, such as ``float32``.
        frozen_dtype: number type of the others, or how they are quantized, such as ``nf4``.
    """

    module: str
    modules: int = 0
    trained: int = 0
    total: int = 0
    dtype: str = ""
    frozen_dtype: str = ""
    names: set[str] = field(default_factory=set, repr=False)


def trained_rows(model: nn.Module) -> list[TrainedRow]:
    """The table, largest number of trained parameters first."""
    rows: dict[str, TrainedRow] = {}
    kinds: dict[tuple[str, bool], set[str]] = defaultdict(set)
    for name, parameter in model.named_parameters():
        parts = [part for part in name.split(".")[:-1] if not _of_adapter(part)]
        kind = parts[-1] if parts else name
        row = rows.setdefault(kind, TrainedRow(kind))
        row.names.add(".".join(parts))
        row.trained += trained_size(parameter)
        row.total += size_of(parameter)
        kinds[kind, parameter.requires_grad].add(format_of(parameter))
    for kind, row in rows.items():
        row.modules = len(row.names)
        row.dtype, row.frozen_dtype = (", ".join(sorted(kinds[kind, trained])) for trained in (True, False))
    return sorted(rows.values(), key=lambda row: (-row.trained, -row.total, row.module))


def _of_adapter(part: str) -> bool:
    return part.startswith(("lora_", "trainable_tokens_")) or part in (
        "default", "base_layer", "modules_to_save", "original_module", "token_adapter",
    )  # fmt: skip


def render_trained(rows: list[TrainedRow]) -> str:
    """The table as text, with a line for the whole model."""
    whole = TrainedRow("all", sum(r.modules for r in rows), sum(r.trained for r in rows), sum(r.total for r in rows))
    lines = [("module", "number", "trained", "of", "trained in", "frozen in")]
    for row in (*rows, whole):
        lines.append((row.module, str(row.modules), f"{row.trained:,}", f"{row.total:,}", row.dtype, row.frozen_dtype))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in (1, 2, 3) else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def keep_trained(model: nn.Module, output_dir: Path) -> str:
    """Write the table into the folder of the run, as JSON and as text; returns the text."""
    rows = trained_rows(model)
    text = render_trained(rows)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(output_dir / TEXT, text + "\n")
    write_atomically(output_dir / JSON, json.dumps([_plain(row) for row in rows], indent=1) + "\n")
    return text


def _plain(row: TrainedRow) -> dict[str, Any]:
    return {**asdict(row), "names": sorted(row.names)}
