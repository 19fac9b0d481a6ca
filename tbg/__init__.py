"""The tbg command, the settings all commands share, and the embedded stack.

In a checkout the rooms lie side by side. A wheel has them in ``tbg/rooms/``, so that it brings
one name to others' environments: ``ingest`` and ``devnet`` are names of other packages too.
There, importing ``tbg`` lets this process and those that it starts find the rooms.
"""

import os
import sys
from pathlib import Path
from typing import Final

_IN_WHEEL: Final = Path(__file__).resolve().parent / "rooms"

ROOMS: Final = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_WHEEL.parent.parent
"""The folder of the rooms, of ``sql/`` and of ``docs/``."""

if ROOMS == _IN_WHEEL and str(ROOMS) not in sys.path:
    # First: a package of another with the name of a room must not be taken for it.
    sys.path.insert(0, str(ROOMS))
    _others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOMS}{os.pathsep}{_others}" if _others else str(ROOMS)
