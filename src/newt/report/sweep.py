"""``sweep.html``: the runs of a sweep, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from newt.report import numbers, page
from newt.support.files import write_atomically


def write_sweep_report(folder: Path, members: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``folder/sweep.html``.

    Args:
        folder: folder of the sweep.
        members: in the order of the table: ``name``, ``settings``, ``status``, ``output_dir`` and ``result``
            (``eval_loss``, ``train_loss``, ``steps``).
    """
    keys = list(dict.fromkeys(key for member in members for key in member["settings"]))
    losses = [_loss(member) for member in members]
    known = [loss for loss in losses if loss is not None]
    rows = [
        {
            "name": member["name"],
            "report": f"{member['name']}/report.html" if _has_report(folder, member) else "",
            "status": member["status"],
            "settings": [_text(member["settings"].get(key)) for key in keys],
            "eval": numbers.short(member["result"].get("eval_loss")),
            "train": numbers.short(member["result"].get("train_loss")),
            "steps": numbers.count(member["result"].get("steps")),
            "bar": round(100 * loss / max(known)) if loss is not None and max(known) > 0 else 0,
        }
        for member, loss in zip(members, losses, strict=True)
    ]
    finished = sum(member["status"] == "finished" for member in members)
    text = page.render("sweep.html", title=f"Sweep {folder.name}", keys=keys, rows=rows, finished=finished)
    path = folder / "sweep.html"
    write_atomically(path, text)
    return path


def _loss(member: Mapping[str, Any]) -> float | None:
    result = member["result"]
    value = result.get("eval_loss")
    return numbers.finite(result.get("train_loss") if value is None else value)


def _has_report(folder: Path, member: Mapping[str, Any]) -> bool:
    return (folder / str(member["name"]) / "report.html").is_file()


def _text(value: Any) -> str:
    return numbers.NONE if value is None else numbers.short(value) if isinstance(value, float) else str(value)
