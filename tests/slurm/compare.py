"""Compare the records of two folders: all must be there, and the same but for their provenance."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reproduction.runs import records
from synthetic import content


def main() -> int:
    """Print what differs, or how many records are the same."""
    left, right = map(Path, sys.argv[1:])
    names = [{p.relative_to(f) for p in f.rglob("seed*.json")} for f in (left, right)]
    differ = {str(name) for name in names[0] ^ names[1]}
    for name in names[0] & names[1]:
        if content(records.read(left / name)) != content(records.read(right / name)):
            differ.add(str(name))
    print(f"{len(names[0])} records, {len(differ)} differ {sorted(differ) or ''}")
    return int(bool(differ) or not names[0])


if __name__ == "__main__":
    sys.exit(main())
