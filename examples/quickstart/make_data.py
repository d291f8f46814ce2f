"""Make a small chat dataset from the docstrings of this machine's Python standard library.

Source files are parsed, never imported. The same Python version always gives the same rows:

    python examples/quickstart/make_data.py quickstart/data

writes train.jsonl, held_out.jsonl (of modules that train.jsonl never names) and questions.txt.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

TRAIN, HELD_OUT, QUESTIONS = 1500, 150, 4
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "encodings", "turtledemo", "ensurepip", "pydoc_data"}
SKIPPED |= {"site-packages", "dist-packages"}
WORDS = range(8, 61)
# Signatures, doctests, bullet lists, field lists, headings and tables are no prose.
NOT_PROSE = re.compile(r">>>|->|^\s*[-*+|=:@.]|::$|\w\(.*\)\s*$|^\S+\s*=|[<>{}\\|]|  ", re.MULTILINE)
ROLE = re.compile(r":\w+:`~?([^`]*)`|``([^`]*)``|`([^`']*)['`]|\*([^*\s][^*]*)\*")

Row = tuple[str, str, str]
"""(module, question, answer)"""


def library_modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and source file of every public module, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if names and not any(name in SKIPPED or name.startswith("_") for name in names):
            yield ".".join(names), path


def documented(module: str, path: Path) -> Iterator[tuple[str, str]]:
    """Dotted name and docstring of the public functions, classes and methods of a source file."""
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a distribution may ship files that are wrong on purpose
        return
    waiting: list[tuple[str, ast.Module | ast.ClassDef]] = [(module, tree)]
    for prefix, parent in waiting:
        for node in parent.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            name = f"{prefix}.{node.name}"
            if docstring := ast.get_docstring(node):
                yield name, docstring
            if isinstance(node, ast.ClassDef):
                waiting.append((name, node))


def first_paragraph(docstring: str) -> str | None:
    """The first paragraph as one line of plain prose, or None when it is something else."""
    paragraph = docstring.strip().split("\n\n")[0].strip()
    if NOT_PROSE.search(paragraph) or not paragraph[0].isupper():
        return None
    text = ROLE.sub(lambda found: next(group for group in found.groups() if group is not None), paragraph)
    text = " ".join(text.split())
    if not text.isascii() or len(text.split()) not in WORDS or "`" in text or text.endswith((":", ",", ";")):
        return None
    return text if text.endswith((".", "!", "?")) else text + "."


def rows() -> Iterator[Row]:
    """One row for each answer; a sentence that two names share is kept once."""
    seen: set[str] = set()
    for module, path in library_modules():
        for name, docstring in documented(module, path):
            answer = first_paragraph(docstring)
            if answer and answer not in seen:
                seen.add(answer)
                yield module, f"What does `{name}` do?", answer


def order(text: str) -> str:
    """Sort key that looks random and is the same everywhere."""
    return hashlib.sha256(text.encode()).hexdigest()


def split(every: list[Row]) -> tuple[list[Row], list[Row]]:
    """Training rows and held-out rows, without a top-level package in both."""
    by_package: dict[str, list[Row]] = {}
    for row in every:
        by_package.setdefault(row[0].split(".")[0], []).append(row)
    held_out: list[Row] = []
    for package in sorted(by_package, key=order):
        # No package may be most of the held-out rows, or the loss would be about that package.
        if len(held_out) < HELD_OUT and len(by_package[package]) <= HELD_OUT // 5:
            held_out += by_package.pop(package)
    train = [row for rows_of_one in by_package.values() for row in rows_of_one]
    return sorted(train, key=lambda row: order(row[1]))[:TRAIN], sorted(held_out, key=lambda row: order(row[1]))[
        :HELD_OUT
    ]


def write(path: Path, chosen: list[Row]) -> None:
    """Write chat rows, one JSON object a line."""
    lines = []
    for _, question, answer in chosen:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Write the two files and the questions."""
    train, held_out = split(list(rows()))
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "train.jsonl", train)
    write(folder / "held_out.jsonl", held_out)
    questions = [question for _, question, _ in held_out[:QUESTIONS]]
    (folder / "questions.txt").write_text("\n".join(questions) + "\n", encoding="utf-8")
    for name, chosen in (("train.jsonl", train), ("held_out.jsonl", held_out)):
        print(f"{folder / name}: {len(chosen)} rows of {len({row[0] for row in chosen})} modules")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart/data"))
