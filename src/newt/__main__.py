"""``python -m newt``: the command line."""

from newt.cli import main

main()
