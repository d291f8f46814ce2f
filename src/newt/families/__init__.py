"""Model architectures: one family per file, with what is special about it."""
