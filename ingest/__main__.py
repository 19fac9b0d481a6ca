"""``python -m ingest``: the daemon without the rest of ``tbg``."""

from ingest.cli import ingest

ingest(prog_name="python -m ingest")
