"""Places in a plan that Parts fill, and that say who filled them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from newt.support.errors import NewtError

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")


class CollisionError(NewtError):
    """Two Parts want the same slot."""


class Slot(Generic[T]):
    """A place that one Part may fill; others may wrap what is there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.by: str | None = None
        self._value: T | None = None
        self._wraps: list[tuple[Callable[[T], T], str]] = []

    def fill(self, value: T, *, by: str) -> None:
        """Put a value into the slot.

        Raises:
            CollisionError: another Part filled it already.
        """
        if self.by is not None:
            raise CollisionError(f"{self.by} and {by} both want to be the {self.name}: remove one of them")
        self._value, self.by = value, by

    def wrap(self, wrapper: Callable[[T], T], *, by: str) -> None:
        """Wrap whatever value the slot will hold; wrappers run in the order in which they were added."""
        self._wraps.append((wrapper, by))

    def get(self, default: T | None = None) -> T | None:
        """The value with its wrappers around it, or the default (wrapped as well)."""
        value = self._value if self.by is not None else default
        if value is None:
            return None
        for wrapper, _ in self._wraps:
            value = wrapper(value)
        return value

    def __bool__(self) -> bool:
        return self.by is not None


class Table(dict[str, Any]):
    """Keyword arguments that remember which Part set them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.by: dict[str, str] = {}

    def fill(self, *, by: str, **values: Any) -> None:
        """Set keyword arguments.

        Raises:
            CollisionError: another Part set one of them to another value.
        """
        for key, value in values.items():
            if key in self and self[key] != value:
                raise CollisionError(f"{self.by[key]} sets {self.name} {key}={self[key]!r}, and {by} sets {value!r}")
            self[key] = value
            self.by.setdefault(key, by)


@dataclass(frozen=True)
class Swap:
    """Replacement of module instances, made before sharding.

    Attributes:
        old: class of the modules to replace, as a dotted path (resolved when the plan is executed).
        new: makes the replacement from the old module.
        by: name of the Part.
        when: before or after the adapter is attached.
    """

    old: str
    new: Callable[[nn.Module], nn.Module]
    by: str
    when: Literal["before_adapter", "after_adapter"] = "after_adapter"
