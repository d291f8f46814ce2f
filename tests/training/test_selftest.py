"""The self-test finds planted faults, and passes where there are none."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.tiny import CAPACITY, Rows, make

from newt.losses.causal import causal_loss, plain_causal_loss, trained_tokens
from newt.models.compile import compile_layers
from newt.training.fit import fit
from newt.training.selftest import (
    OutOfTime,
    _plain,
    time_limit,
    tries,
    try_accumulation,
    try_attention,
    try_checkpointing,
    try_compile,
    try_loss,
    try_packing,
    try_reload,
    try_resume,
    try_stop,
)
from newt.training.subject import LENGTHS, ShortRows, Subject, difference, lengthen, short_rows, stir, without_dropout


def subject(model_dir: Path, out: Path, *, lora: bool = False, loss: Any = None, **options: Any) -> Subject:
    data = ShortRows(short_rows(Rows(40, longest=90)))
    trainer, _ = make(model_dir, out, lora=lora, **options)
    if loss:
        trainer.setup.plan.loss._value = loss
    if lora:
        stir(trainer.model)
    return Subject(trainer, data.rows)


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_good_run_passes_everything(model_dir: Path, out: Path, lora: bool) -> None:
    args = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    results = list(tries(subject(model_dir, out, lora=lora, args=args), plain_causal_loss, "", 10))
    assert {result.name: result.passed for result in results} == {
        "gradient accumulation": True, "packing": True, "loss without logits": True, "attention": True,
        "gradient checkpointing": True, "torch.compile": None,
    }, results  # fmt: skip
    assert all(result.loss < 1e-5 and result.gradient < 1e-4 for result in results if result.passed)


def test_a_loss_that_averages_means_is_found(model_dir: Path, out: Path) -> None:
    def mean_of_means(model: Any, batch: Any, num_items: Any) -> Any:
        # As a trainer that divides each micro-batch by its own tokens, and then by the number of micro-batches.
        return causal_loss(model, batch, trained_tokens(batch)) * batch["labels"].shape[0] / len(LENGTHS)

    result = try_accumulation(subject(model_dir, out, loss=mean_of_means))
    assert not result.passed
    assert result.gradient > 0.1


def test_packing_that_leaks_is_found(model_dir: Path, out: Path) -> None:
    found = subject(model_dir, out)

    def forget(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        length = kwargs["input_ids"].shape[1]
        return args, {**kwargs, "position_ids": torch.arange(length)[None]}

    found.model.register_forward_pre_hook(forget, with_kwargs=True)
    found.reference = found.measure(found.separate([[row] for row in found.rows]))
    result = try_packing(found)
    assert not result.passed
    assert "another neighbour changes" in result.note


def test_a_wrong_fast_loss_is_found(model_dir: Path, out: Path) -> None:
    def shifted(model: Any, batch: Any, num_items: Any) -> Any:
        return plain_causal_loss(model, {**batch, "labels": batch["labels"].roll(1, 1)}, num_items)

    assert not try_loss(subject(model_dir, out, loss=shifted), plain_causal_loss).passed
    assert try_loss(subject(model_dir, out), None, "another function").note == "another function"


def test_an_attention_that_computes_something_else_is_found(model_dir: Path, out: Path) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def halved(module: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query * 0.5, *args, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register("halved", halved)
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    ALL_MASK_ATTENTION_FUNCTIONS.register("halved", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    trainer, _ = make(model_dir, out)
    trainer.model.set_attn_implementation("halved")
    result = try_attention(Subject(trainer, short_rows(Rows(40))))
    assert result.passed is False
    assert "halved and eager" in result.note
    trainer.model.set_attn_implementation("eager")
    assert try_attention(Subject(trainer, short_rows(Rows(40)))).passed is None


def test_checkpointing_that_loses_gradients_is_found(model_dir: Path, out: Path) -> None:
    found = subject(model_dir, out, args={"gradient_checkpointing": True})
    model = found.trainer.model
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    name = f"{kind}_checkpointing_enable"
    enable = getattr(model, name)

    def cut(kwargs: Any) -> None:
        enable(kwargs)
        model.model.layers[1].register_forward_hook(lambda module, args, output: output.detach())

    setattr(model, name, cut)
    assert not try_checkpointing(found).passed


def compiled(model_dir: Path, out: Path, backend: Any) -> Subject:
    trainer, _ = make(model_dir, out)
    compile_layers(trainer.model, backend=backend)
    return Subject(trainer, short_rows(Rows(40, longest=90)))


@pytest.fixture
def _no_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_no_compiled_code")
def test_compiled_layers_that_compute_something_else_are_found(model_dir: Path, out: Path) -> None:
    def slightly_off(graph: Any, inputs: Any) -> Any:
        return lambda *args: tuple(value * 1.001 if value.is_floating_point() else value for value in graph(*args))

    found = try_compile(compiled(model_dir, out, slightly_off), 60)
    assert found.passed is False
    assert found.gradient > 1e-4
    good = compiled(model_dir, out, "eager")
    found = try_compile(good, 60)
    assert (found.passed, found.note) == (True, f"{len(good.compiled)} layers")
    assert {part._compiled_call_impl for part in good.compiled} == {None}


@pytest.mark.usefixtures("_no_compiled_code")
def test_a_compiler_that_takes_too_long_or_fails(model_dir: Path, out: Path) -> None:
    def slow(graph: Any, inputs: Any) -> Any:
        for _ in range(1000):
            time.sleep(0.01)
        return graph

    late = compiled(model_dir, out, slow)
    found = try_compile(late, 0.1)
    assert found.passed is None
    assert found.note.startswith("not checked: took longer than 0.1 s")
    assert late.compare("again", late.measure(late.separate([[row] for row in late.rows]))).passed, "it goes on"

    def broken(graph: Any, inputs: Any) -> Any:
        raise ValueError("no compiler here")

    found = try_compile(compiled(model_dir, out, broken), 60)
    assert found.passed is False
    assert "no compiler here" in found.note


def test_a_time_limit_leaves_the_handler_as_it_was() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        pass
    with pytest.raises(OutOfTime), time_limit(0.01):
        while True:
            time.sleep(0.001)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_rows_are_as_long_as_the_time_allows(model_dir: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from newt.training import subject as module

    data = Rows(60, longest=300)
    for seconds, most in ((0.0, sum(LENGTHS)), (1e6, sum(LENGTHS) * max(module.SCALES))):
        monkeypatch.setattr(module, "SECONDS", seconds)
        trainer, _ = make(model_dir, out)
        found = Subject(trainer, short_rows(data))
        least = found.tokens
        lengthen(found, data)
        assert least <= found.tokens <= most
        assert (found.tokens > 2 * least) == (seconds > 0)
        assert found.compare("same rows", found.measure(found.separate([[row] for row in found.rows]))).passed


class Ended(Rows):
    """Rows whose last token is ``last``."""

    def __init__(self, count: int, last: int, but: int = 0) -> None:
        super().__init__(count)
        for ids in self.ids[but:]:
            ids[-1] = last


def test_stop_token() -> None:
    names = {2: "</s>"}
    good = try_stop(Ended(20, 2), {2}, 100, lambda token: names.get(token, str(token)))
    assert good.passed
    assert good.note == "20 of 20 rows end with '</s>'"
    bad = try_stop(Ended(20, 7, but=1), {2}, 100, lambda token: names.get(token, str(token)))
    assert not bad.passed
    assert "0 of 20" in bad.note or "1 of 20" in bad.note
    assert "others end with '7'" in bad.note
    assert not try_stop(Ended(20, 2, but=10), {2}, 100, str).passed
    assert try_stop(Ended(20, 2), {2}, 5, str).passed is None


def maker(model_dir: Path, out: Path, made: list[Any], **options: Any) -> Any:
    from tests.training.tiny import Data

    data = Data(Rows(16))

    def build() -> Any:
        trainer, cfg = make(model_dir, out, data=data, max_steps=2, save_steps=1, overwrite_output_dir=True, **options)
        made.append(cfg)
        return trainer

    return build


def test_resume(model_dir: Path, out: Path) -> None:
    made: list[Any] = []
    build = maker(model_dir, out, made, packed=False, lora=True)
    build()
    result, trainer = try_resume(build, made[0])
    assert (result.passed, result.note) == (True, "bit-identical")
    assert trainer.state.global_step == 2


def test_a_resume_that_forgets_the_optimizer_is_found(model_dir: Path, out: Path) -> None:
    made: list[Any] = []
    build = maker(model_dir, out, made, packed=False, lora=True)

    def forgetful() -> Any:
        trainer = build()
        trainer._load_optimizer_and_scheduler = lambda checkpoint: None
        return trainer

    build()
    result, _ = try_resume(forgetful, made[0])
    assert not result.passed
    assert "weights differ" in result.note


def test_reload(model_dir: Path, out: Path) -> None:
    trainer, cfg = make(model_dir, out, lora=True)
    rows = short_rows(Rows(40))
    assert try_reload(trainer, rows, lambda model: model, "adapter").passed
    with _plain(trainer) as model:
        assert not model.training

    def damaged(model: Any) -> Any:
        import copy

        other = copy.deepcopy(model)
        stir(other)
        return other

    assert not try_reload(trainer, rows, damaged, "adapter").passed
    assert fit(trainer, cfg).global_step


def test_rows_are_short_and_train_different_numbers_of_tokens() -> None:
    rows = short_rows(Rows(40, longest=200))
    assert len(rows) == len(LENGTHS)
    assert all(len(row["input_ids"]) <= most for row, most in zip(rows, LENGTHS, strict=True))
    counts = {int((row["labels"][1:] != -100).sum()) for row in rows}
    assert len(counts) > 1
    equal = Rows(4)
    equal.ids = [np.arange(3, 13, dtype=np.int32)] * 4
    assert len({int((row["labels"][1:] != -100).sum()) for row in short_rows(equal)}) == 2
    assert sum(map(len, (row["input_ids"] for row in short_rows(Rows(2))))) <= CAPACITY * 2


def test_difference_of_gradients() -> None:
    one = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    assert difference(one, one) == 0
    assert difference(one, {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.5])}) == pytest.approx(0.1)
    assert difference(one, {"a": torch.tensor([torch.nan, 0.0]), "b": torch.tensor([4.0])}) == float("inf")


def test_dropout_is_gone(model_dir: Path, out: Path) -> None:
    trainer, _ = make(model_dir, out, dropout=0.5)
    without_dropout(trainer.model)
    assert all(layer.self_attn.attention_dropout == 0 for layer in trainer.model.model.layers)
