"""The data part of a report, and the page about prepared data that holds nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from newt.report import numbers, page, summary, tables
from newt.report.charts import histogram
from newt.report.tables import mapping, sequence
from newt.support.files import write_atomically

FILE = "report.html"


def write_data_report(found: Mapping[str, Any], sequence_len: int, folder: Path) -> Path:
    """Write a page about prepared data into their folder.

    Args:
        found: what ``data.summary.Summary.to_dict`` gives.
        sequence_len: the line in the histogram.
        folder: where the page goes.
    """
    data = tables.data_summary({"data": found})
    path = folder / FILE
    notices = summary.data_notices(data)
    write_atomically(path, page.render("data.html", notices=notices, **section(data, sequence_len), **_totals(found)))
    return path


def _totals(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures at the top of the page."""
    tokens, trained, leaked = (found.get(key) for key in ("train_tokens", "trained_tokens", "leaked"))
    facts = [
        (
            "Training rows",
            numbers.count(found.get("train_rows")),
            f"longest {numbers.count(found.get('longest'))} tokens",
        ),
        ("Training tokens", numbers.compact(tokens), f"{numbers.percent(trained, tokens)} of them trained"),
        ("Evaluation rows", numbers.count(found.get("eval_rows")), f"{leaked:,} trained as well" if leaked else ""),
    ]
    return {"facts": [summary.Fact(*fact) for fact in facts]}


def section(data: Mapping[str, Any], sequence_len: Any) -> dict[str, Any]:
    """What the template of the data part reads.

    Args:
        data: of ``tables.data_summary``.
        sequence_len: the line in the histogram.
    """
    rows, total = tables.data_rows(data)
    return {
        "data_rows": rows,
        "data_total": total,
        "has_types": any(row.kind for row in rows),
        "has_duplicates": any(row.duplicates for row in rows),
        "has_mix": any(row.mix for row in rows),
        "lengths": _lengths(data, sequence_len),
        "packing": _packing(mapping(data.get("packing"))),
    }


def _lengths(data: Mapping[str, Any], sequence_len: Any) -> Markup | str:
    """The histogram of row lengths, with the line at ``sequence_len``."""
    counted = mapping(data.get("histogram"))
    edges, counts = ([numbers.finite(v) for v in sequence(counted.get(key))] for key in ("edges", "counts"))
    if not counts or None in edges or None in counts:
        return ""
    limit = numbers.finite(sequence_len)
    marker = (limit, f"sequence_len {numbers.count(limit)}") if limit else None
    return histogram(
        [v for v in edges if v is not None],
        [v for v in counts if v is not None],
        title="Row lengths",
        unit="tokens",
        note=f"{numbers.count(sum(v for v in counts if v is not None))} rows",
        marker=marker,
    )


def _packing(packing: Mapping[str, Any]) -> str:
    if not packing:
        return ""
    parts = []
    if packing.get("bins") is not None:
        parts.append(f"packed into {numbers.count(packing['bins'])} sequences")
    if packing.get("efficiency") is not None:
        parts.append(f"{numbers.percent(packing['efficiency'], 1)} full")
    return ", ".join(parts)
