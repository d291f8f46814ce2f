"""Real configs of the field load unchanged: the examples that the reference publishes, read at test time."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from newt.commands.shared import find_problems

PACKAGE = "axolotl==0.19.0"
EXPECTED = Path(__file__).parents[1] / "golden" / "examples_expected.json"

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Path in the source archive -> the file. Only example YAML files are taken out of the archive."""
    folder = tmp_path_factory.mktemp("examples")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", PACKAGE]
    done = subprocess.run([*command, "-d", str(folder)], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip("the package registry does not answer")
    found = {}
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        for name, text in _yaml_files(archive):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            found[name] = path
    return found


def _yaml_files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive.getmembers():
        _, _, name = member.name.partition("/")
        file = archive.extractfile(member)
        if file is not None and name.startswith("examples/") and name.endswith((".yml", ".yaml")):
            yield name, file.read()


def test_every_example_is_accepted_or_its_mistake_is_listed(examples: Mapping[str, Path]):
    expected: dict[str, dict[str, str]] = json.loads(EXPECTED.read_text())
    assert len(examples) >= 265
    wrong = {}
    for name, path in sorted(examples.items()):
        _, problems = find_problems(path, facts=False)
        found = {
            problem.keys[0] if problem.keys else "": str(problem) for problem in problems if problem.kind == "invalid"
        }
        if set(found) != set(expected.get(name, {})):
            wrong[name] = {"found": found, "expected": expected.get(name, {})}
    assert wrong == {}
