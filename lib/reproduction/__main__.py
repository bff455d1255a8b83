"""``python -m reproduction``."""

from .cli import main

main()
