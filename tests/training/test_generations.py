"""Answers and texts at evaluations: what they find, and that they change nothing of the run."""

import json
import math
import types
from collections import Counter

import numpy as np
import pytest
import torch
from tests.training.tiny import Data, Rows, load, run, same, trained

from newt.training.bench import Bench, choose, read_questions
from newt.training.causal_lm import CausalLm, compare, perplexity
from newt.training.generations import FILE, Generations, Wanted
from newt.training.prompts import first_prompt, prompts_of, split_text


def row(labels):
    return {"input_ids": np.arange(10, 10 + len(labels)), "labels": np.array(labels)}


def test_prompts_of_a_row():
    turns = row([-100, -100, 12, 13, -100, 15])
    assert list(prompts_of(turns)) == [([10, 11], [12, 13]), ([10, 11, 12, 13, 14], [15])]
    assert first_prompt(turns) == ([10, 11], [12, 13])
    assert list(prompts_of(row([10, 11, -100, 13]))) == [([10, 11, 12], [13])]
    assert list(prompts_of({"chosen_input_ids": np.array([1])})) == []
    assert split_text(row([10, 11, 12, 13]), 0.5) == ([10, 11], [12, 13])
    assert split_text(row([10, 11]), 0.01) == ([10], [11])
    assert split_text(row([10]), 0.5) is None


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_is_the_same_with_and_without_samples(model_dir, tmp_path, lora):
    wanted = Wanted("generation_samples", 3, 5, temperature=0.9, top_p=0.9, top_k=20)
    options = {"data": Data(Rows(16), Rows(4)), "lora": lora, "eval_steps": 2, "logging_steps": 1}
    _, plain = run(model_dir, tmp_path / "plain", **options)
    evaluations = [Generations(wanted), CausalLm(("perplexity",), 5, 16)]
    _, with_samples = run(model_dir, tmp_path / "samples", evaluations=evaluations, **options)
    assert same(trained(plain), trained(with_samples))
    lines = [json.loads(line) for line in (tmp_path / "samples" / FILE).read_text().splitlines()]
    steps = sorted({line["step"] for line in lines})
    assert steps[:2] == [0, 2]
    assert len(lines) == 3 * len(steps)
    assert set(lines[0]) == {"step", "kind", "prompt", "answer", "reference"}
    assert len({line["prompt"] for line in lines}) == 3


def test_a_run_that_goes_on_writes_no_answer_twice(tmp_path):
    known = [{"step": step, "kind": "a", "prompt": "", "answer": "", "reference": ""} for step in (0, 2, 4)]
    other = {"step": 4, "kind": "b"}
    (tmp_path / FILE).write_text("".join(json.dumps(line) + "\n" for line in [*known, other]) + '{"ste')
    arguments = types.SimpleNamespace(output_dir=str(tmp_path), should_save=True)
    trainer = types.SimpleNamespace(args=arguments, state=types.SimpleNamespace(global_step=2))
    Generations(Wanted("a", 1, 1))._begin(trainer)
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert lines == [known[0], other]


@pytest.mark.parametrize("window", [1000, 8])
def test_perplexity_against_its_formula(model_dir, window, monkeypatch):
    monkeypatch.setattr("newt.training.causal_lm.STRIDE", 3)
    model = load(model_dir).model.eval()
    texts = [list(range(5, 25)), [7, 8], [9]]
    losses = []
    for ids in texts:
        for place in range(1, len(ids)):
            # the first window that reaches the token
            begin = 0 if window == 1000 else 3 * max(0, math.ceil((place + 1 - window) / 3))
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids[begin:place]])).logits[0, -1].double()
            losses.append(float(-logits.log_softmax(0)[ids[place]]))
    assert perplexity(model, texts, window) == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)
    assert math.isnan(perplexity(model, [[9]], window))


def test_scores_of_texts():
    same_texts = compare(("sacrebleu", "chrf", "ter"), ["the cat sat on the mat"], ["the cat sat on the mat"])
    assert {name: round(value, 6) for name, value in same_texts.items()} == {"sacrebleu": 100, "chrf": 100, "ter": 0}
    # One of four words is another: 1 edit of 4 words.
    assert compare(("ter",), ["a b c x"], ["a b c d"]) == {"ter": 25.0}
    # Precisions 4/5, 3/4, 2/3 and 1/2 of one to four words, no brevity penalty.
    bleu = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert compare(("sacrebleu",), ["a b c d x"], ["a b c d e"])["sacrebleu"] == pytest.approx(bleu)


def character_f(answer, reference, order=6, beta=2):
    """chrF of Popović (2015): F of the mean precision and recall of character n-grams, without white space."""
    precisions, recalls = [], []
    for n in range(1, order + 1):
        grams = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (answer, reference)]
        same = (grams[0] & grams[1]).total()
        if grams[0] and grams[1]:
            precisions.append(same / grams[0].total())
            recalls.append(same / grams[1].total())
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * (1 + beta**2) * p * r / (beta**2 * p + r)


def test_characters_against_the_paper():
    answer, reference = "the cat sits on a mat", "a cat sat on the mat"
    expected = character_f(answer.replace(" ", ""), reference.replace(" ", ""))
    assert compare(("chrf",), [answer], [reference])["chrf"] == pytest.approx(expected)


def test_a_short_answer_is_punished():
    """Brevity: exp(1 - 6/5) times the precisions, all of them 1."""
    expected = 100 * math.exp(1 - 6 / 5)
    assert compare(("sacrebleu",), ["a b c d e"], ["a b c d e f"])["sacrebleu"] == pytest.approx(expected)


def test_no_texts_to_compare():
    assert math.isnan(compare(("chrf",), [], [])["chrf"])


class Letters:
    """Knows only letters: each is a token."""

    def __call__(self, text):
        return {"input_ids": [ord(letter) for letter in text]}


class Wants(torch.nn.Module):
    """Finds B most likely after "2", A otherwise."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, use_cache):
        logits = torch.zeros(1, input_ids.shape[1], 128)
        logits[0, -1, ord("B" if input_ids[0, -1] == ord("2") else "A")] = 1
        logits[0, -1, ord("z")] = 5  # likelier, but no letter of an answer
        return types.SimpleNamespace(logits=logits)


def test_questions_are_scored_by_subject(tmp_path):
    file = tmp_path / "questions.jsonl"
    questions = [("1", "A", "x"), ("2", "A", "x"), ("2", " B", "y"), ("1", "no letter", "y")]
    file.write_text("".join(json.dumps({"input": i, "output": o, "subject": s}) + "\n" for i, o, s in questions))
    assert [choose(Wants(), Letters(), text) for text in ("1", "2")] == ["A", "B"]
    trainer = types.SimpleNamespace(model=Wants(), processing_class=Letters())
    assert Bench(str(file), "eval")(trainer) == {
        "bench_accuracy_x": 0.5,
        "bench_accuracy_y": 1.0,
        "bench_average_accuracy": 0.75,
    }


def test_subjects_become_names_that_every_tracker_takes(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"input": "1", "output": "A", "subject": "high school: C++ (1)"}\n{"input": "1", "output": "A"}\n')
    assert [row["subject"] for row in read_questions(str(file), "eval")] == ["high_school_C_1_", "all"]


def test_questions_need_no_evaluation_rows(model_dir, out):
    """Then there is no loss, and a run computes the same as one that asks nothing."""
    asked = []

    def evaluate(trainer):
        asked.append(trainer.state.global_step)
        return {"bench_average_accuracy": 0.5}

    options = {"data": Data(Rows(8)), "packed": False, "max_steps": 2}
    plain = run(model_dir, out / "plain", **options)[1]
    more = {"evaluations": [evaluate], "eval_steps": 1, "metric_for_best_model": "bench_average_accuracy"}
    outcome, trainer = run(model_dir, out, **options, **more)
    assert asked == [0, 1, 2]
    assert outcome.metrics.keys() == {"eval_bench_average_accuracy", "eval_runtime"}
    assert outcome.before["eval_bench_average_accuracy"] == 0.5
    assert same(trained(plain), trained(trainer))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"input": "a"}\n', "no column output"),
        ('{"input": "a", "output": "no"}\n', "no row of"),
        ("{", "cannot be read"),
    ],
)
def test_questions_that_are_none(tmp_path, content, text):
    file = tmp_path / "questions.jsonl"
    file.write_text(content)
    from newt.support.errors import NewtError

    with pytest.raises(NewtError, match=text):
        read_questions(str(file), "eval")
