"""Answers of a model: one prompt in, text out, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from newt.config.core import Model
from newt.extend import LoadPlan
from newt.models.adapters import load_lora
from newt.models.embeddings import align_special_ids, resize_embeddings
from newt.models.kbit import is_packed, is_quantized
from newt.models.load import build_model, len_of
from newt.support.errors import NewtError

_HELD_BACK = "\ufffd"  # an unfinished character at the end of a decoded text


def load_for_inference(plan: LoadPlan, tokenizer: Any, folder: Path | str | None = None) -> Any:
    """The model of a plan in evaluation mode, on the GPU if there is one.

    Args:
        plan: the load plan; its adapter slot is not used.
        tokenizer: the tokenizer of the run.
        folder: a trained adapter or a trained model; None: the base model as it is.

    Raises:
        NewtError: the model or the adapter cannot be loaded.
    """
    notes: list[str] = []
    trained = Path(folder).expanduser() if folder is not None else None
    is_adapter = trained is not None and (trained / "adapter_config.json").is_file()
    model = build_model(plan, notes, None if trained is None or is_adapter else str(trained))
    if trained is None or is_adapter:
        resize_embeddings(model, len_of(tokenizer), plan.cfg[Model], notes)
    align_special_ids(model, tokenizer, notes)
    if is_adapter and trained is not None:
        model = load_lora(model, trained, trainable=False)
    model.requires_grad_(False)
    model.eval()
    if is_quantized(model):
        return model  # it was loaded to its device, and cannot be moved
    return model.to("cuda") if torch.cuda.is_available() else model


def stream(
    model: Any,
    tokenizer: Any,
    prompt_ids: Sequence[int],
    *,
    seed: int = 42,
    **sampling: Any,
) -> Iterator[str]:
    """Generate an answer and give its text as soon as whole characters are known.

    Args:
        model: a model in evaluation mode.
        tokenizer: its tokenizer.
        prompt_ids: ids of the prompt.
        seed: of the random choices.
        **sampling: max_new_tokens (1024), temperature (0: always the most likely token), top_p, top_k,
            repetition_penalty.
    """
    ids: list[int] = []
    shown = ""
    for token in generate_ids(model, prompt_ids, seed=seed, **sampling):
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if not text.endswith(_HELD_BACK) and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
    rest = tokenizer.decode(ids, skip_special_tokens=True)[len(shown) :]
    if rest:
        yield rest


def complete(model: Any, tokenizer: Any, prompt_ids: Sequence[int], **sampling: Any) -> str:
    """The whole answer of ``stream``."""
    return "".join(stream(model, tokenizer, prompt_ids, **sampling))


def generate_ids(
    model: Any,
    prompt_ids: Sequence[int],
    *,
    seed: int = 42,
    max_new_tokens: int = 1024,
    **sampling: Any,
) -> Iterator[int]:
    """Generate ids, with a key-value cache, until a stop token (which is not given) or ``max_new_tokens``.

    Raises:
        NewtError: an empty prompt.
    """
    if not prompt_ids:
        raise NewtError("The prompt is empty")
    device = next(model.parameters()).device
    chooser = _Chooser(prompt_ids, torch.Generator(device).manual_seed(seed), **sampling)
    stops = stop_ids(model)
    current = torch.tensor([list(prompt_ids)], device=device)
    cached: dict[str, Any] = {"use_cache": True, "past_key_values": None}
    for length in range(len(prompt_ids), len(prompt_ids) + max_new_tokens):
        with torch.no_grad(), mixed_precision(model):
            mask = torch.ones(1, length, dtype=torch.long, device=device)
            output = model(input_ids=current, attention_mask=mask, **cached)
        cache = getattr(output, "past_key_values", None)
        token = chooser(output.logits[0, -1])
        if token in stops:
            return
        yield token
        new = torch.tensor([[token]], device=device)
        if cache is None:  # recurrent models keep their state elsewhere: the whole row is computed again
            cached, current = {"use_cache": False}, torch.cat([current, new], 1)
        else:
            cached, current = {"use_cache": True, "past_key_values": cache}, new


def mixed_precision(model: Any) -> AbstractContextManager[Any]:
    """Lets a model that holds some weights in 16 and some in 32 bits compute in 16."""
    """Autocast for a model that trains float32 weights upon frozen ones of 16 bits, as its training has it."""
    kinds = {parameter.dtype for parameter in model.parameters() if not is_packed(parameter)}
    half = next((kind for kind in (torch.bfloat16, torch.float16) if kind in kinds), None)
    if half is None or torch.float32 not in kinds:
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=half)


def stop_ids(model: Any) -> set[int]:
    """Ids at which generation ends."""
    config = getattr(model, "generation_config", None) or model.config
    stops = config.eos_token_id
    return set(stops) if isinstance(stops, list | tuple) else {stops} - {None}


class _Chooser:
    """Chooses the next token from logits (vocabulary,): penalty, temperature, top-k, top-p, in this order."""

    def __init__(
        self,
        seen: Sequence[int],
        random: torch.Generator,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
    ) -> None:
        self.seen = list(seen)
        self.random = random
        self.temperature, self.top_p, self.top_k, self.penalty = temperature, top_p, top_k, repetition_penalty

    def __call__(self, logits: torch.Tensor) -> int:
        logits = self._penalized(logits.float())
        if self.temperature <= 0:
            token = int(logits.argmax())
        else:
            token = int(torch.multinomial(self._shares(logits / self.temperature), 1, generator=self.random))
        self.seen.append(token)
        return token

    def _penalized(self, logits: torch.Tensor) -> torch.Tensor:
        """Divide positive and multiply negative logits of tokens seen before (https://arxiv.org/abs/1909.05858)."""
        if self.penalty == 1.0:
            return logits
        seen = torch.tensor(sorted(set(self.seen)), device=logits.device)
        old = logits[seen]
        return logits.index_copy(0, seen, torch.where(old > 0, old / self.penalty, old * self.penalty))

    def _shares(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities (vocabulary,) after top-k and top-p; the most likely token always stays."""
        if 0 < self.top_k < logits.shape[0]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[-1], float("-inf"))
        shares = logits.softmax(0)
        if self.top_p < 1.0:
            ordered, order = shares.sort(descending=True)
            beyond = ordered.cumsum(0) - ordered >= self.top_p
            shares = shares.index_fill(0, order[beyond], 0.0)
        return shares
