"""``type: input_output``: text in segments that say themselves whether they are trained, without a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from newt.config.core import Data
from newt.data.instructions import objects_of, text_of
from newt.extend import Format, Segment, Text
from newt.support.errors import DataError


class InputOutput(Format):
    """``segments``: a list of ``{label, text}``. Nothing is added, not even beginning and end tokens."""

    name = "input_output"

    def columns(self) -> Sequence[str]:
        """The column of the segments."""
        return ("segments",)

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """Each segment is tokenized on its own."""
        segments = []
        for number, segment in enumerate(objects_of(row, "segments")):
            label = segment.get("label")
            if not isinstance(label, bool):
                raise DataError(f"segments[{number}]: label must be true or false, it is {label!r}")
            try:
                text = text_of(segment, "text")
            except DataError as error:
                raise DataError(f"segments[{number}]: {error}") from error
            train = label or self.cfg[Data].train_on_inputs
            segments.append(Segment(text, train, f"label: {str(label).lower()}", fields=()))
        return Text(segments, bos=False, eos=False)
