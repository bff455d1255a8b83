"""``python -m reproduction``."""

from .plan.cli import main

main()
