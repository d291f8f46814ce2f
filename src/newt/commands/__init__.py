"""One file per command, read top to bottom."""
