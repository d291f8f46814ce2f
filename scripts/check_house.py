"""House rules that the linters do not know: sizes, mirrored tests, the README's tree, links and words.

    python scripts/check_house.py

Each rule takes the root of the repository and yields one line for each place that breaks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_LINES, MAX_KERNEL_LINES, MAX_FUNCTION = 400, 1000, 60
TEXT = {".py", ".md", ".yml", ".yaml", ".toml", ".sh", ".jinja", ".html", ".css", ".js", ".txt", ""}

# Test folders that stand beside the mirrored ones.
EXTRA_TESTS = {"house", "golden", "gpu", "network", "examples", "benchmarks"}
# Rooms in which every file is a Part, and so has a test of its own name.
PART_ROOMS = ("features", "methods")

# Hosts that a text may point to: papers, documentation and the source code of others. Whoever installs Newt decides
# where packages and models come from, so no other host is written down.
HOSTS = {"arxiv.org", "docs.python.org", "github.com", "huggingface.co", "json-schema.org", "peps.python.org"}
HOSTS |= {"pytorch.org", "docs.pytorch.org", "www.apache.org", "www.w3.org", "keepachangelog.com", "semver.org"}
HOSTS |= {"example.com", "example.org", "localhost", "127.0.0.1"}

URL = re.compile(r"https?://([\w-]+\.[\w.-]+)")
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w./>-])/(?:tmp|work|root|home)/\w"),
    "an issue number": re.compile(r"(?i)\b(?:issue|ticket|pr) #\d+|\((?:#\d+)\)"),
    "a requirement number": re.compile(r"\b(?:OVR|CFG|CLI|DAT|RL|MOD|TRN|MMD?|ENV|OUT)-\d+\b"),
    "an unfinished note": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
}
THIS = "scripts/check_house.py"

Rule = Callable[[Path], Iterator[str]]


def untracked(root: Path) -> Iterator[str]:
    """Files of an unpacked archive, which has no git: all but hidden folders and what commands make."""
    made = {"quickstart", "dist", "build", "last_run_prepared"}
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if not parts[0].startswith(".") and parts[0] not in made and "__pycache__" not in parts:
            yield "/".join(parts)


def in_git(root: Path) -> list[str]:
    """Files that are in the repository or would be added to it."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")


def tracked(root: Path, *suffixes: str) -> Iterator[Path]:
    """Files that belong to the project, sorted; with suffixes, only those that end so."""
    names = in_git(root) if (root / ".git").exists() else untracked(root)
    for name in sorted(set(names)):
        path = root / name
        if path.is_file() and (not suffixes or path.suffix in suffixes):
            yield path


def sizes(root: Path) -> Iterator[str]:
    """Files have at most 400 lines (kernels 1,000), functions at most 60."""
    for path in tracked(root, ".py"):
        name = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        limit = MAX_KERNEL_LINES if "kernels" in name.parts else MAX_LINES
        lines = text.count("\n")
        if lines > limit:
            yield f"{name}: {lines} lines, at most {limit}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION}"


def mirrored_tests(root: Path) -> Iterator[str]:
    """tests/ has the folders of src/newt, no others, and a test for every Part."""
    source, tests = root / "src" / "newt", root / "tests"
    rooms = {path.name for path in source.iterdir() if path.is_dir() and any(path.glob("[!_]*.py"))}
    tested = {path.name for path in tests.iterdir() if path.is_dir() and any(path.rglob("test_*.py"))}
    for room in sorted(rooms - tested):
        yield f"src/newt/{room}: has no tests in tests/{room}"
    for folder in sorted(tested - rooms - EXTRA_TESTS):
        yield f"tests/{folder}: there is no src/newt/{folder}"
    for room in PART_ROOMS:
        for part in sorted((source / room).glob("[!_]*.py")):
            if not (tests / room / f"test_{part.name}").is_file():
                yield f"src/newt/{room}/{part.name}: has no tests/{room}/test_{part.name}"


def readme_tree(root: Path) -> Iterator[str]:
    """The tree of src/newt in the README names what is there."""
    text = (root / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^src/newt/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if block is None:
        yield "README.md: has no tree that begins with src/newt/"
        return
    named = set(re.findall(r"^[├└]── ([\w.]+)", block[1], re.MULTILINE))
    source = root / "src" / "newt"
    there = {path.name for path in source.iterdir() if not path.name.startswith(("_", ".")) and path.name != "py.typed"}
    for name in sorted(there - named):
        yield f"README.md: src/newt/{name} is missing in the tree"
    for name in sorted(named - there):
        yield f"README.md: src/newt/{name} is in the tree but not on the disk"


def words(root: Path) -> Iterator[str]:
    """Texts speak of the project alone: no machine, no unfinished work, no hosts but those of sources."""
    for path in tracked(root):
        name = path.relative_to(root).as_posix()
        if path.suffix not in TEXT or name == THIS:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for host in URL.findall(line):
                if host.rstrip(".") not in HOSTS:
                    yield f"{name}:{number}: links to the host {host}, which is not in HOSTS of {THIS}"
            for what, pattern in FORBIDDEN.items():
                if pattern.search(line):
                    yield f"{name}:{number}: holds {what}: {line.strip()[:80]}"


def links(root: Path) -> Iterator[str]:
    """Links between pages lead somewhere."""
    for path in tracked(root, ".md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not (path.parent / target).exists():
                yield f"{path.relative_to(root)}: links to {target}, which is not there"


RULES: tuple[Rule, ...] = (sizes, mirrored_tests, readme_tree, words, links)


def main(root: Path) -> int:
    """Print what is wrong; return 1 if anything is."""
    found = [f"{rule.__name__}: {line}" for rule in RULES for line in rule(root)]
    print("\n".join(found) or "house rules: nothing is wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1]))
