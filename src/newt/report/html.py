"""``report.html``: what a run did, in one file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from newt.report import datasets, figures, page, summary, tables
from newt.report.figures import Log
from newt.report.tables import mapping, sequence
from newt.report.tokens import read_row, token_rows, visible
from newt.support.errors import NewtError
from newt.support.files import write_atomically

MAX_ROWS = 20
MAX_SAMPLES = 20
MAX_SAMPLE_TEXT = 8000
MAX_STEPS = 9


def write_report(output_dir: Path) -> Path:
    """Build ``output_dir/report.html`` from the files of a run, of which only run.json must be there.

    Reads run.json, metrics.jsonl, tokens.json, samples.json and generations.jsonl. A file that cannot be read is named
    in the report.

    Raises:
        NewtError: run.json is missing or is not a JSON object.
    """
    run = _read_run(output_dir / "run.json")
    log = Log(_read_lines(output_dir / "metrics.jsonl"))
    tokens: list[Any] = []
    samples: list[Any] = []
    unread = []
    for name, into in (("tokens.json", tokens), ("samples.json", samples)):
        try:
            into += _read_list(output_dir / name)
        except ValueError:
            unread.append(f"{name} could not be read: its part of the report is missing.")
    answers = _answers(_read_lines(output_dir / "generations.jsonl"))
    text = page.render("report.html", **_context(run, log, tokens, samples, unread), answers=answers)
    path = output_dir / "report.html"
    write_atomically(path, text)
    return path


def _context(
    run: Mapping[str, Any], log: Log, tokens: Sequence[Any], samples: Sequence[Any], unread: Sequence[str]
) -> dict[str, Any]:
    model, result = mapping(run.get("model")), mapping(run.get("result"))
    data = tables.data_summary(run)
    extra, extra_left_out = figures.extra_charts(log)
    section = datasets.section(data, mapping(run.get("config")).get("sequence_len"))
    mine, defaults, unset = tables.settings(mapping(run.get("config")), sequence(run.get("given")))
    shown = [read_row(row) for row in tokens[:MAX_ROWS] if isinstance(row, Mapping)]
    name = str(model.get("name") or mapping(run.get("config")).get("base_model") or "Training run")
    return {
        "version": str(mapping(run.get("versions")).get("newt") or ""),
        "model": name.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or name,
        "model_path": name,
        "how": [str(model[key]) for key in ("method", "adapter") if model.get(key)],
        "data_names": [row.name for row in section["data_rows"]],
        "headline": summary.headline(result, log),
        "facts": summary.facts(run, log),
        "notices": [*summary.notices(run, log), *unread],
        "loss": figures.loss_chart(log) if log["loss"] or log.eval_losses() else "",
        "evaluations": figures.evaluations(log)[-200:],
        "evaluation_names": log.eval_losses(),
        "charts": figures.small_charts(log),
        "extra": extra,
        "extra_left_out": extra_left_out,
        **section,
        "tokens": token_rows(shown),
        "token_rows": len(shown),
        "tokens_left_out": max(0, len(tokens) - len(shown)),
        "samples": [_sample(sample) for sample in samples[:MAX_SAMPLES] if isinstance(sample, Mapping)],
        "samples_left_out": max(0, len(samples) - MAX_SAMPLES),
        "settings": mine,
        "defaults": defaults,
        "unset": unset,
        "environment": tables.environment(run),
    }


def _sample(sample: Mapping[str, Any]) -> dict[str, str]:
    return {key: _cut(sample.get(key)) for key in ("prompt", "before", "after", "reference")}


def _answers(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Prompts with what the model answered while it was trained, at the first and the last evaluations."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        key = (str(line.get("kind")), str(line.get("prompt")))
        entry = found.setdefault(key, {"prompt": _cut(line.get("prompt")), "by_step": []})
        entry["reference"] = _cut(line.get("reference"))
        entry["by_step"].append((line.get("step"), _cut(line.get("answer"))))
    for entry in found.values():
        entry["by_step"] = entry["by_step"][:1] + entry["by_step"][1:][-MAX_STEPS:]
    return list(found.values())[:MAX_SAMPLES]


def _cut(value: Any) -> str:
    text = "" if value is None else visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    more = len(text) - MAX_SAMPLE_TEXT
    return text if more <= 0 else f"{text[:MAX_SAMPLE_TEXT]} … {more:,} more characters"


# --------------------------------------------------------------------------- files


def _read_run(path: Path) -> Mapping[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NewtError(f"{path.parent}: no run.json here. Give the output_dir of a run.") from None
    except (OSError, ValueError) as error:
        raise NewtError(f"{path}: cannot be read: {error}. Give the output_dir of a run.") from None
    if not isinstance(run, Mapping):
        raise NewtError(f"{path}: must be a JSON object. Give the output_dir of a run.")
    return run


def _read_lines(path: Path) -> list[Mapping[str, Any]]:
    """The objects of a JSONL file; a killed run leaves half a line at its end, which is skipped."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, Mapping):
            found.append(event)
    return found


def _read_list(path: Path) -> list[Any]:
    """A JSON list, empty when the file is missing.

    Raises:
        ValueError: the file is not a JSON list.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, list):
        raise ValueError("not a list")
    return found
