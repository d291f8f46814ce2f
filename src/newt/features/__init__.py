"""Toggles: one feature per file, with its keys, checks and behaviour."""
