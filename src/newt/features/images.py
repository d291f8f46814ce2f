"""How images reach a vision model, and where its roles begin."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from newt.config.section import Config, Section
from newt.extend import Feature


class RoleBoundary(Section):
    """One entry of ``role_boundaries``."""

    role: str = Field()
    """The role."""
    start: str = Field()
    """Text that begins its turns."""
    end: str | None = None
    """Text that ends them."""
    include_start: bool = False
    """Train on the beginning."""
    include_end: bool = True
    """Train on the end."""


class ImageSettings(Section):
    """Keys of images."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    """Size of the images in pixels: one number, or width and height."""
    image_resize_algorithm: Literal["bilinear", "bicubic", "lanczos"] | None = None
    """How they are resized."""
    role_boundaries: tuple[RoleBoundary, ...] | None = None
    """Where the turns of a vision model's template begin and end."""


class Images(Feature):
    """Prepares images."""

    name = "images"
    Settings = (ImageSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one of the keys is set."""
        return any(getattr(cfg[ImageSettings], key) is not None for key in ImageSettings.model_fields)
