"""Sections of dataset entries that more than one format reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section

Turns = Literal["all", "turn", "last", "none"]


class Dataset(Section):
    """One entry of ``datasets`` or ``test_datasets``: where the rows come from. Formats add their own keys."""

    reads_path: ClassVar[bool] = True  # False: the format makes its rows itself

    path: str = Field()
    """A file, a folder, a saved dataset, an address (https://, s3://, gs://, az://, oci://), or a dataset id on the
    Hub."""
    type: str | dict[str, Any] | None = None
    """Layout of the rows: the name of a format."""
    name: str | tuple[str, ...] | None = None
    """Configuration of a Hub dataset. A list stands for as many entries."""
    split: str | None = None
    """Split, with an optional slice: ``train[:500]``, ``train[10%:20%]``. Default: train (test for test_datasets)."""
    revision: str | None = None
    """Branch, tag or commit of a Hub dataset."""
    data_files: str | tuple[str, ...] | dict[str, str | tuple[str, ...]] | None = None
    """Files below ``path``: a name, a pattern, a list of them, or split -> files."""
    ds_type: Literal["json", "csv", "parquet", "arrow", "text"] | None = None
    """File type, when the file name does not tell."""
    trust_remote_code: bool = False
    """Kept for compatibility; datasets no longer runs code of a dataset."""
    shards: PositiveInt | None = None
    """Shuffle the rows, cut them into this many parts and take one of them: a random sample."""
    shards_idx: NonNegativeInt | None = None
    """Number of the part that ``shards`` takes. Default 0."""
    preprocess_shards: PositiveInt | None = None
    """Accepted for compatibility: rows are always tokenized in small pieces. All rows are kept, in their order."""
    storage_options: dict[str, Any] | None = None
    """Arguments of the file system of a cloud address, such as ``anon: true``."""
    weight: float | None = Field(default=None, gt=0)
    """How often each row is used in an epoch: 2 doubles the dataset, 0.5 takes a random half of it. Default 1. With
    ``weight_by``: the dataset's part of the mix, in proportion to the other weights."""

    def check_entry(self, cfg: Config, key: str) -> Iterable[Problem]:
        """Rules between the keys of one entry.

        Args:
            cfg: the config that holds the entry.
            key: where the entry stands, such as ``datasets.0``.
        """
        if isinstance(self.name, tuple):  # others were expanded when the config was read
            yield cfg.problem(f"{key}.name", "is an empty list.", "Name a configuration, or remove it.")
        if self.shards and self.preprocess_shards:
            keys = (f"{key}.preprocess_shards", f"{key}.shards")
            yield cfg.problem(keys, "cannot be used with shards.", "Remove one.")
        if self.weight is not None and key.startswith("test_datasets"):
            message = "has no effect: every evaluation row is evaluated once."
            yield cfg.problem(f"{key}.weight", message, "Remove it.")
        if self.shards_idx is not None and not self.shards:
            yield cfg.problem(f"{key}.shards_idx", "has no effect: shards is not set.", "Set shards, or remove it.")
        elif self.shards and (self.shards_idx or 0) >= self.shards:
            yield cfg.problem(f"{key}.shards_idx", f"must be less than shards ({self.shards}).")


class ChatTemplateDataset(Dataset):
    """Keys of a dataset of conversations."""

    chat_template: str | None = None
    """Chat template of this dataset: ``tokenizer_default``, ``jinja`` or a built-in name. Default: the global one."""
    chat_template_jinja: str | None = None
    """A Jinja template, or the path of a file that holds one."""
    field_messages: str = "messages"
    """Column that holds the messages."""
    field_tools: str = "tools"
    """Column that holds the tools."""
    field_system: str = "system"
    """Column that holds a system message for conversations that do not begin with one."""
    message_property_mappings: dict[str, str] | None = None
    """Key that the template reads -> key of the dataset's messages, such as ``{role: from, content: value}``."""
    message_field_role: str | None = None
    """Older way to write ``message_property_mappings: {role: ...}``."""
    message_field_content: str | None = None
    """Older way to write ``message_property_mappings: {content: ...}``."""
    message_field_training: str | None = None
    """Key of a message that says whether it is trained (true or false)."""
    message_field_training_detail: str | None = None
    """Key of a message that lists which characters of its content are trained."""
    roles: dict[str, tuple[str, ...]] | None = None
    """Role of the template -> roles in the dataset. Default: human is user, gpt is assistant."""
    roles_to_train: tuple[str, ...] = ("assistant",)
    """Roles whose turns are trained, where ``message_field_training`` does not say otherwise."""
    train_on_eos: Turns | None = None
    """Which turns' end-of-sequence token is trained: that of trained turns (turn, the default), all, last or none."""
    train_on_eot: Turns | None = None
    """The same for the tokens of ``eot_tokens``. Default: as ``train_on_eos``."""
    drop_system_message: bool = False
    """Leave out a system message at the beginning."""
    split_thinking: bool = False
    """Move reasoning that stands in tags inside the content to ``template_thinking_key``."""
    field_thinking: str = "reasoning_content"
    """Key of a message that holds its reasoning."""
    template_thinking_key: str = "reasoning_content"
    """Key under which the chat template reads reasoning."""

    def check_entry(self, cfg: Config, key: str) -> Iterable[Problem]:
        """The older spellings of the mapping still work, but must not contradict it."""
        yield from super().check_entry(cfg, key)
        for name, target in (("message_field_role", "role"), ("message_field_content", "content")):
            older, mapped = getattr(self, name), (self.message_property_mappings or {}).get(target)
            if older and mapped and older != mapped:
                message = f"{older} contradicts message_property_mappings, which has {target}: {mapped}."
                yield cfg.problem(f"{key}.{name}", message, "Remove it.")
            elif older:
                hint = f"Write message_property_mappings: {{{target}: {older}}}."
                yield cfg.problem(f"{key}.{name}", "is an older spelling.", hint, kind="warning")
