"""The rollups on both flavours of the database."""

from tbg_dagster.rollup.raw import is_whole
from tbg_dagster.rollup.rollup import Rollup, raw_spans, recompute, rollup_of, without_raw
from tbg_dagster.rollup.span import Span

__all__ = [
    "Rollup",
    "Span",
    "is_whole",
    "raw_spans",
    "recompute",
    "rollup_of",
    "without_raw",
]
