"""``python -m wheretolearn``."""

from .cli import main

main()
