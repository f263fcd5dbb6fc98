"""Draw all pictures, or those whose names are given."""

from __future__ import annotations

import sys

from docs.pictures import pictures, save

for name in sys.argv[1:] or pictures:
    path = save(name)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB")
