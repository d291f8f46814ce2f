"""Small helpers that know nothing of models or configs: errors, logging, environment, files."""
