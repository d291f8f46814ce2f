"""The tokenizer's less common settings: other tokenizer libraries, renamed tokens, rows that nobody trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import NonNegativeInt

from newt.config.core import Data, Model, Template
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature, LoadPlan
from newt.models.tokenizer import uses_mistral_common

NOT_WITH_MISTRAL = (
    "added_tokens_overrides", "special_tokens", "tokens", "chat_template", "chat_template_jinja", "eot_tokens",
    "processor_kwargs",
)  # fmt: skip
"""Keys that change a tokenizer of transformers, and cannot change one of mistral-common."""


class TokenSettings(Section):
    """Further keys of the tokenizer."""

    tokenizer_use_mistral_common: bool | None = None
    """Tokenize and render chats with the package mistral-common instead of transformers."""
    tokenizer_save_jinja_files: bool = True
    """Save the chat template in a file of its own, not inside tokenizer_config.json."""
    added_tokens_overrides: dict[NonNegativeInt, str] | None = None
    """Give reserved tokens another text: token id -> text."""
    fix_untrained_tokens: NonNegativeInt | tuple[NonNegativeInt, ...] | None = None
    """Ids of tokens whose embeddings begin as the mean of the trained ones."""
    embeddings_skip_upcast: bool | None = None
    """Accepted for compatibility: the embeddings of a frozen base are never converted to float32."""


class Tokens(Feature):
    """Refuses what the chosen tokenizer could not follow."""

    name = "tokens"
    Settings = (TokenSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    def plan_load(self, plan: LoadPlan) -> None:
        """Rows that begin as the mean of others must be among those that are saved."""
        fixed = self.cfg[TokenSettings].fix_untrained_tokens
        if fixed is not None:
            ids = (fixed,) if isinstance(fixed, int) else fixed
            plan.prepare_base.append(lambda model, notes: _fix_rows(model, ids, notes))
            plan.prepare.append(lambda model: _check_saved(model, ids))

    def plan_data(self, plan: DataPlan) -> None:
        """A tokenizer of mistral-common makes the token rows itself."""
        if uses_mistral_common(self.cfg):
            plan.tokenize.fill(_mistral_rows, by="mistral-common")

    def check(self) -> Iterable[Problem]:
        """A tokenizer of mistral-common cannot be changed; a token has one text; a fixed row is trained."""
        yield from self._check_mistral()
        yield from self._check_empty()
        yield from self._check_template()
        overrides = self.cfg[TokenSettings].added_tokens_overrides or {}
        texts = list(overrides.values())
        for text in dict.fromkeys(text for text in texts if texts.count(text) > 1):
            yield self.problem("added_tokens_overrides", f"{text!r} is given to several ids.", "Give it to one.")
        yield from self._check_fixed()
        if self.cfg.value("embeddings_skip_upcast") is False:
            message = "false is not possible: the embeddings of a frozen base stay in the format of the arithmetic."
            yield self.problem("embeddings_skip_upcast", message, "Remove it.", kind="warning")

    def _check_template(self) -> Iterable[Problem]:
        """The template is looked up now, not after the model and the data were read."""
        from newt.data.template import is_template, template_names

        named = {"chat_template": self.cfg[Template].chat_template}
        for key, entries in (("datasets", self.cfg[Data].datasets), ("test_datasets", self.cfg[Data].test_datasets)):
            for number, entry in enumerate(entries or ()):
                named[f"{key}.{number}.chat_template"] = getattr(entry, "chat_template", None)
        for key, name in named.items():
            if name is not None and not is_template(name):
                near = get_close_matches(name, template_names(), 1)
                valid = f"Valid: tokenizer_default, jinja, {', '.join(template_names())}."
                yield self.problem(key, f"unknown template {name!r}.", f"Did you mean {near[0]}?" if near else valid)
        yield from self._check_one_template()

    def _check_one_template(self) -> Iterable[Problem]:
        """Rows may have several templates, the saved tokenizer has one."""
        own = self.cfg[Template]
        used: dict[str, str] = {}
        for number, entry in enumerate(self.cfg[Data].datasets or ()):
            if hasattr(entry, "chat_template"):
                text = getattr(entry, "chat_template_jinja", None) or entry.chat_template
                text = text or own.chat_template_jinja or own.chat_template or "tokenizer_default"
                used.setdefault(text, f"datasets.{number}")
        if len(used) > 1:
            first, other, *_ = used.values()
            message = f"is another template than that of {first}, with which the tokenizer is saved."
            yield self.problem(f"{other}.chat_template", message, "Use one for all.", kind="warning")

    def _check_empty(self) -> Iterable[Problem]:
        """A token without text, or a list without ids, does nothing."""
        model = self.cfg[Model]
        given: dict[str, Any] = model.special_tokens.model_dump() if model.special_tokens else {}
        texts = {f"special_tokens.{name}": value for name, value in given.items()} | {"tokens": model.tokens}
        for key, value in texts.items():
            if "" in ((value,) if isinstance(value, str) else value or ()):
                yield self.problem(key, "a token needs a text.", "Remove it, or write the token.")
        if self.cfg[TokenSettings].fix_untrained_tokens == ():
            yield self.problem("fix_untrained_tokens", "names no token.", "Remove it, or list ids.")
        if not model.tokenizer_use_fast and not uses_mistral_common(self.cfg):
            message = "false has no effect: transformers has one tokenizer for each model."
            yield self.problem("tokenizer_use_fast", message, "Remove it.", kind="warning")

    def _check_mistral(self) -> Iterable[Problem]:
        key = "tokenizer_use_mistral_common"
        if not uses_mistral_common(self.cfg):
            return
        for other in NOT_WITH_MISTRAL:
            if self.cfg.value(other):
                yield self.problem((other, key), "cannot be used with a tokenizer of mistral-common.", "Remove it.")
        if self.facts.known and "mistral-common" not in self.facts.packages:
            hint = "Install it: pip install 'newt-tune[mistral]'."
            yield self.problem(key, "needs the package mistral-common.", hint)
        if self.cfg[TokenSettings].tokenizer_use_mistral_common is None:
            yield self.problem(
                ("base_model", key),
                "Magistral models were trained with mistral-common, so their tokenizer of it is used.",
                "Set tokenizer_use_mistral_common: false for that of transformers.",
                kind="warning",
            )

    def _check_fixed(self) -> Iterable[Problem]:
        fixed = self.cfg[TokenSettings].fix_untrained_tokens
        trained = self.cfg.value("peft_trainable_token_indices")
        if fixed is None or trained is None:
            return
        listed = trained.values() if isinstance(trained, dict) else (trained,)
        known = {number for numbers in listed for number in numbers}
        for number in (fixed,) if isinstance(fixed, int) else fixed:
            if number not in known:
                yield self.problem(
                    ("fix_untrained_tokens", "peft_trainable_token_indices"),
                    f"token {number} would not be trained.",
                    "Add it to peft_trainable_token_indices.",
                    kind="warning",
                )


def _fix_rows(model: Any, ids: Sequence[int], notes: list[str]) -> None:
    from newt.models.untrained import fix_untrained_rows

    fix_untrained_rows(model, ids, notes)


def _check_saved(model: Any, ids: Sequence[int]) -> None:
    from newt.models.untrained import refuse_unsaved_rows

    refuse_unsaved_rows(model, ids)


def _mistral_rows(*arguments: Any) -> Any:
    from newt.data.mistral import MistralRows

    return MistralRows(*arguments)
