"""The code location by a name that is there in a wheel too: ``dagster ... -m tbg.definitions``."""

from tbg_dagster.definitions import defs

__all__ = ["defs"]
