"""Structured logs: one line per event at DEBUG, rates once a minute at INFO."""

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

import structlog


class _Patient(io.TextIOBase):
    """A stream whose errors stop nobody: a full disk or a closed pipe costs lines, no daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(level: str, style: str) -> None:
    """Sets structlog up for this process; to log never fails.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        style: ``console`` for people, ``json`` for machines.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Patient(sys.stderr))),
        cache_logger_on_first_use=True,
    )
