"""The options --log-level and --log-format of the devnet's commands."""

from collections.abc import Callable
from typing import Any

import click


def log_options(debug: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds both options; ``debug`` says what the level DEBUG logs."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        level = click.option(
            "--log-level",
            type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
            envvar="LOG_LEVEL",
            show_envvar=True,
            default="INFO",
            help=f"DEBUG logs {debug}.",
        )
        style = click.option(
            "--log-format",
            type=click.Choice(["console", "json"]),
            envvar="LOG_FORMAT",
            show_envvar=True,
            default="console",
        )
        return level(style(function))

    return add
