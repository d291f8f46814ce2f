"""The configuration: a flat YAML file read into typed, frozen sections."""
