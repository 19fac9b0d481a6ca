"""``python -m ingest``: the daemon without the rest of ``tbg``."""

from tbg_core import signals

signals.hold()  # before the imports, which take most of a start

from ingest.cli import ingest  # noqa: E402  # signals are held before anything else is imported

ingest(prog_name="python -m ingest")
