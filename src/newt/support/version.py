"""The version, where even the lowest room may read it."""

__version__ = "0.1.0"
