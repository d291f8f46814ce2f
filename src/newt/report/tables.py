"""The tables of a report: data, config, environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from newt.report import numbers

DROPPED_SHARE = 0.05
TRUNCATED_SHARE = 0.05
TRAINED_SHARE = 0.05


@dataclass(frozen=True)
class DataRow:
    """One dataset of the data table, or their total; the flags say which cells deserve a look."""

    name: str
    kind: str
    use: str
    read: str
    kept: str
    dropped: str
    dropped_why: Sequence[str]
    truncated: str
    tokens: str
    trained: str
    trained_share: str
    trained_width: float
    notes: Sequence[str]
    duplicates: str
    mix: str
    mix_tokens: str
    much_dropped: bool
    much_truncated: bool
    little_trained: bool


@dataclass(frozen=True)
class Setting:
    """One resolved leaf of the config."""

    key: str
    value: str


def mapping(value: Any) -> Mapping[str, Any]:
    """The value when it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """The value when it is a list, else an empty one."""
    return value if isinstance(value, list | tuple) else []


def data_summary(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``data`` of run.json; what ``data.summary.Summary.to_dict`` gives is brought into its shape."""
    data = mapping(run.get("data"))
    if "length_edges" not in data:
        return data
    packed = {"efficiency": data.get("packing_efficiency"), "bins": data.get("packed_rows")}
    return {
        "datasets": [_entry(mapping(entry)) for entry in sequence(data.get("datasets"))],
        "histogram": {"edges": data["length_edges"], "counts": data.get("length_counts")},
        "packing": packed if packed["efficiency"] is not None else None,
        "notes": data.get("notes"),
    }


def _entry(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    reasons = {
        "too_long": "too long",
        "too_short": "too short",
        "nothing_to_train": "nothing to train",
        "deduplicated": "duplicates",
    }
    dropped_for = {text: entry.get(key) for key, text in reasons.items()}
    names = {"rows": "rows_read", "kept": "rows_kept", "trained": "trained_tokens"}
    return {**{names.get(key, key): value for key, value in entry.items()}, "dropped": dropped_for}


def data_rows(data: Mapping[str, Any]) -> tuple[list[DataRow], DataRow | None]:
    """The data table, and its total when there are several datasets."""
    entries = [mapping(entry) for entry in sequence(data.get("datasets"))]
    train = [entry for entry in entries if entry.get("use") == "train"]
    used = _Used(*(sum(numbers.finite(entry.get(key)) or 0 for entry in train) for key in ("used", "used_tokens")))
    rows = [_data_row(entry, used if len(train) > 1 else None) for entry in entries]
    if len(rows) < 2:
        return rows, None
    total = dict(mapping(data.get("totals")))
    for key in ("rows_read", "rows_kept", "truncated", "tokens", "trained_tokens", "duplicates"):
        total.setdefault(key, sum(numbers.finite(entry.get(key)) or 0 for entry in entries))
    total["dropped"] = {"all": sum(dropped(entry) for entry in entries)}
    total["notes"] = {}
    return rows, _data_row({**total, "path": f"All {len(rows)}"}, is_total=True)


@dataclass(frozen=True)
class _Used:
    """What an epoch takes from all datasets together."""

    rows: float
    tokens: float


def _data_row(entry: Mapping[str, Any], used: _Used | None = None, *, is_total: bool = False) -> DataRow:
    read, kept = numbers.finite(entry.get("rows_read")), numbers.finite(entry.get("rows_kept"))
    tokens, trained = numbers.finite(entry.get("tokens")), numbers.finite(entry.get("trained_tokens"))
    truncated, lost, made = numbers.finite(entry.get("truncated")), dropped(entry), rows_made(entry)
    why = [] if is_total else [f"{reason} {numbers.count(n)}" for reason, n in drop_reasons(entry)]
    notes = [f"{key}: {_setting(value)}" for key, value in mapping(entry.get("notes")).items()]
    return DataRow(
        name=str(entry.get("path") or "dataset"),
        kind=str(entry.get("type") or ""),
        use=str(entry.get("use") or ""),
        read=numbers.count(read),
        kept=numbers.count(kept),
        dropped=_with_share(lost, made),
        dropped_why=why,
        truncated=_with_share(truncated, kept),
        tokens=numbers.compact(tokens),
        trained=numbers.compact(trained),
        trained_share=numbers.percent(trained, tokens),
        trained_width=min(100.0, 100 * (trained or 0) / tokens) if tokens else 0.0,
        notes=notes,
        duplicates=numbers.count(duplicates) if (duplicates := numbers.finite(entry.get("duplicates"))) else "",
        mix=numbers.percent(entry.get("used"), used.rows) if used and entry.get("use") == "train" else "",
        mix_tokens=numbers.percent(entry.get("used_tokens"), used.tokens) if used and entry.get("used") else "",
        much_dropped=bool(made) and lost > DROPPED_SHARE * (made or 0),
        much_truncated=bool(kept) and (truncated or 0) > TRUNCATED_SHARE * (kept or 0),
        little_trained=bool(tokens) and (trained or 0) < TRAINED_SHARE * (tokens or 0),
    )


def _with_share(part: float | None, whole: float | None) -> str:
    return f"{numbers.count(part)} ({numbers.percent(part, whole)})" if part and whole else numbers.count(part)


def settings(config: Mapping[str, Any], given: Sequence[Any]) -> tuple[list[Setting], list[Setting], int]:
    """The config's leaves: those that the user wrote, the defaults, and how many keys are not set."""
    written = {str(key) for key in given}
    mine, defaults, unset = [], [], 0
    for key, value in _leaves("", config):
        if _is_given(key, written):
            mine.append(Setting(key, _setting(value)))
        elif value is None or value in ([], {}):
            unset += 1
        else:
            defaults.append(Setting(key, _setting(value)))
    return mine, defaults, unset


def _is_given(key: str, written: set[str]) -> bool:
    """Whether the key was written, or a parent of which no child is listed on its own."""
    parent = key
    while parent:
        if parent in written:
            return parent == key or not any(other.startswith(f"{parent}.") for other in written)
        parent = parent.rpartition(".")[0]
    return False


def _leaves(prefix: str, value: Any) -> list[tuple[str, Any]]:
    """(dotted key, value) of a nested mapping; a list of scalars is one value."""
    if isinstance(value, Mapping) and (value or not prefix):
        pairs = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list) and any(isinstance(child, Mapping | list) for child in value):
        pairs = [(str(i), child) for i, child in enumerate(value)]
    else:
        return [(prefix, value)]
    return [leaf for key, child in pairs for leaf in _leaves(f"{prefix}.{key}" if prefix else key, child)]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_setting(item) for item in value)
    if isinstance(value, str):
        return value if len(value) <= 2000 else f"{value[:2000]} … {len(value) - 2000:,} more characters"
    return json.dumps(value, default=str)


def environment(run: Mapping[str, Any]) -> list[tuple[str, list[Setting]]]:
    """Titled tables of what the run ran on."""
    when = {"started": clock(run.get("started")), "ended": clock(run.get("ended"))}
    groups = (
        ("Hardware", run.get("hardware")),
        ("Versions", run.get("versions")),
        ("Git", run.get("git")),
        ("Clock", {key: text for key, text in when.items() if text}),
    )
    leaves = [(name, [leaf for leaf in _leaves("", mapping(group)) if leaf[0]]) for name, group in groups]
    return [(name, [Setting(key, _setting(value)) for key, value in found]) for name, found in leaves if found]


def dropped(entry: Mapping[str, Any]) -> float:
    """How many rows of a dataset were dropped."""
    return sum(n for _, n in drop_reasons(entry))


def rows_made(entry: Mapping[str, Any]) -> float | None:
    """Rows that were kept or dropped: not those that were read where one row gives several pieces."""
    kept = numbers.finite(entry.get("rows_kept"))
    return numbers.finite(entry.get("rows_read")) if kept is None else kept + dropped(entry)


def drop_reasons(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(reason, rows) of a dataset's dropped rows, the most frequent first."""
    counts = entry.get("dropped")
    if (plain := numbers.finite(counts)) is not None:
        return [("no reason given", plain)] if plain else []
    found = [(str(reason), numbers.finite(n) or 0.0) for reason, n in mapping(counts).items()]
    return sorted((pair for pair in found if pair[1]), key=lambda pair: -pair[1])


def clock(value: Any) -> str:
    """An ISO time as date, hour and minute; empty when it is not one."""
    time = _time(value)
    return "" if time is None else f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()


def seconds(run: Mapping[str, Any]) -> float | None:
    """How long a run took, all its parts together, None when that is not known."""
    start, end = _time(run.get("started")), _time(run.get("ended"))
    if start is None or end is None or (start.tzinfo is None) != (end.tzinfo is None):
        return None
    return (end - start).total_seconds() + (numbers.finite(run.get("earlier_seconds")) or 0.0)


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
