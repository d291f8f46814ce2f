"""``type: chat_template``: conversations, rendered with a chat template."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from newt.config.core import Data, Dataset, Template
from newt.config.entries import ChatTemplateDataset as ChatTemplateDataset
from newt.config.section import Config
from newt.data.messages import (
    Flags,
    detail_flags,
    joined,
    list_of_objects,
    parsed_calls,
    parsed_tools,
    split_thinking,
)
from newt.extend import Conversation, Format, Turn
from newt.support.errors import DataError

logger = logging.getLogger(__name__)

_ROLES = {"user": ("human", "user"), "assistant": ("gpt", "assistant"), "system": ("system",), "tool": ("tool",)}


class ChatTemplate(Format):
    """Conversations."""

    name = "chat_template"
    names = ("chat_template", "messages", "messages.chat")
    Settings = ChatTemplateDataset

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        assert isinstance(entry, ChatTemplateDataset)
        self.settings = entry
        roles = {**_ROLES, **(entry.roles or {})}
        self._roles = {source: target for target, sources in roles.items() for source in sources}
        self._trained_roles = {self._roles.get(role, role) for role in entry.roles_to_train}
        self._sources = self._mappings(entry)
        self._dropped = {source for target, source in self._sources.items() if source != target}
        self._dropped |= {entry.message_field_training or "", entry.message_field_training_detail or ""}
        self._mapped = {*self._sources, *self._sources.values(), *self._dropped}
        self._dropped |= {"weight"} - self._mapped
        self._kwargs = dict(cfg[Template].chat_template_kwargs or {})
        self._reads_media = bool(cfg.value("processor_type"))
        self._warned = False

    @staticmethod
    def _mappings(entry: ChatTemplateDataset) -> dict[str, str]:
        sources = {"role": "role", "content": "content", entry.template_thinking_key: entry.field_thinking}
        if entry.message_field_role:
            sources["role"] = entry.message_field_role
        if entry.message_field_content:
            sources["content"] = entry.message_field_content
        return {**sources, **(entry.message_property_mappings or {})}

    def columns(self) -> Sequence[str]:
        """The column of the messages."""
        return (self.settings.field_messages,)

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        """A conversation with the training flags of its turns."""
        settings = self.settings
        raw = self._raw_messages(row)
        built = [self._message(i, message) for i, message in enumerate(raw)]
        tools = row.get(settings.field_tools)
        eos = settings.train_on_eos or "turn"
        return Conversation(
            messages=[message for message, _ in built],
            turns=[turn for _, turn in built],
            tools=None if tools is None else parsed_tools(list_of_objects(tools, settings.field_tools)),
            train_on_eos=eos,
            train_on_eot=settings.train_on_eot or eos,
            template_kwargs=self._kwargs,
            reasoning_key=settings.template_thinking_key,
        )

    def _raw_messages(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        settings = self.settings
        if row.get(settings.field_messages) is None:
            raise DataError(
                f"{settings.field_messages} is missing; the row has: {', '.join(map(str, row)) or 'nothing'}"
            )
        messages = list_of_objects(row[settings.field_messages], settings.field_messages)
        if not messages:
            raise DataError(f"{settings.field_messages} is empty")
        role, content = self._sources["role"], self._sources["content"]
        system = row.get(settings.field_system)
        if isinstance(system, str) and system and self._role(messages[0].get(role)) != "system":
            messages = [{role: "system", content: system}, *messages]
        if settings.drop_system_message and self._role(messages[0].get(role)) == "system":
            messages = messages[1:]
        if not messages:
            raise DataError(f"{settings.field_messages} holds nothing but a system message, which is dropped")
        return messages

    def _role(self, role: Any) -> Any:
        return self._roles.get(role, role) if isinstance(role, str) else role

    def _message(self, index: int, raw: Mapping[str, Any]) -> tuple[dict[str, Any], Turn]:
        """One message as the template reads it, and whether it is trained."""
        message = {key: value for key, value in raw.items() if key not in self._dropped}
        message |= {target: raw[source] for target, source in self._sources.items() if source in raw}
        role = self._role(message.get("role"))
        if not isinstance(role, str):
            known = ", ".join(map(str, raw))
            hint = "message_property_mappings: {role: from, content: value}"
            told = f". Set {hint}" if {"from", "value"} <= set(raw) else ""
            raise DataError(f"message {index} has no {self._sources['role']!r}; it has: {known}{told}")
        message["role"] = role
        thinking = self.settings.template_thinking_key
        try:
            if "tool_calls" in message:
                message["tool_calls"] = parsed_calls(message["tool_calls"])
            spans = self._flatten(message, "content")
            reasoning_spans = self._flatten(message, thinking)
            if detail := raw.get(self.settings.message_field_training_detail or ""):
                spans = spans or detail_flags(detail, message.get("content"))
            if self.settings.split_thinking and role == "assistant":
                self._split(message, bool(spans))
        except DataError as error:
            raise DataError(f"message {index} ({role}): {error}") from error
        self._content(index, message)
        return message, self._turn(index, raw, role, spans, reasoning_spans)

    def _flatten(self, message: dict[str, Any], key: str) -> Flags:
        """Join a field that is given in parts, and return the flags of the parts."""
        value = message.get(key)
        if not isinstance(value, list):
            return ()
        parts = joined(value)
        message[key] = parts.content
        if parts.open_ends and not self._warned:
            self._warned = True
            logger.warning(
                "content part %d ends with a blank and the next one has another training flag: the token across the "
                "border is not trained. Move the blank to the beginning of the next part. Part ends with: %r",
                parts.open_ends[0],
                str(value[parts.open_ends[0]])[-20:],
            )
        return parts.flags

    def _split(self, message: dict[str, Any], flagged: bool) -> None:
        content = message.get("content")
        if not isinstance(content, str) or message.get(self.settings.template_thinking_key):
            return
        parts = split_thinking(content)
        if parts is None:
            return
        if flagged:
            raise DataError("split_thinking cannot be used on a content with training flags")
        message[self.settings.template_thinking_key], message["content"] = parts

    def _content(self, index: int, message: dict[str, Any]) -> None:
        """A message with tool calls or reasoning alone gets an empty content."""
        content = message.get("content")
        if content is None and (message.get("tool_calls") or message.get(self.settings.template_thinking_key)):
            message["content"] = ""
        elif content is None:
            known = ", ".join(map(str, message))
            raise DataError(f"message {index} ({message['role']}) has no {self._sources['content']!r}; it has: {known}")
        elif isinstance(content, list) and not self._reads_media:
            types = [part.get("type") for part in content if isinstance(part, Mapping)]
            kind = next((found for found in types if found not in (None, "text")), "text")
            raise DataError(
                f"message {index} ({message['role']}) holds a part of the type {kind}, and this model is trained on "
                "text. Leave the part out, or set processor_type for a model that reads it."
            )
        elif not isinstance(content, str | list):
            raise DataError(f"message {index} ({message['role']}): content must be a text, it is {content!r}")

    # ------------------------------------------------------------------ what is trained

    def _turn(self, index: int, raw: Mapping[str, Any], role: str, spans: Flags, reasoning_spans: Flags) -> Turn:
        flags = (*spans, *reasoning_spans)
        train = raw.get(self.settings.message_field_training or "")
        if train is None:
            default = self.cfg[Data].train_on_inputs or role in self._trained_roles
            train = any(flag for _, _, flag in flags) if flags else default
        elif not isinstance(train, bool):
            field = self.settings.message_field_training
            raise DataError(f"message {index} ({role}): {field} must be true or false, it is {train!r}")
        if "weight" in raw and "weight" not in self._mapped:
            train = train and self._weight(index, role, raw["weight"])
        return Turn(train and (not flags or any(flag for _, _, flag in flags)), spans, reasoning_spans)

    def _weight(self, index: int, role: str, weight: Any) -> bool:
        """Whether a message counts: ``weight: 0`` takes it out of training, ``weight: 1`` changes nothing."""
        if isinstance(weight, bool) or weight not in (0, 1):
            raise DataError(f"message {index} ({role}): weight must be 0 or 1, it is {weight!r}")
        return bool(weight)
