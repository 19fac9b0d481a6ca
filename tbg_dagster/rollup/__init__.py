"""The rollups on both flavours of the database."""

from tbg_dagster.rollup.rollup import Rollup, Span, oldest_raw, raw_spans, rollup_of

__all__ = ["Rollup", "Span", "oldest_raw", "raw_spans", "rollup_of"]
