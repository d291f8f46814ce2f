"""Layouts of dataset rows, one file each."""
