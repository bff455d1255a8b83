"""``python -m reproduction.publish``."""

import sys

from .book import main

sys.exit(main())
