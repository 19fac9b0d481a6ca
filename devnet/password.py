"""The RPC password of a node, as the commands are given it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

PASSWORD_VARIABLE: Final = "TBG_RPC_PASSWORD"  # noqa: S105 - the name of a variable, not a password


def password_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --rpcpassword-file; the command gets ``rpcpassword``, the text in the file."""
    return click.option(
        "--rpcpassword-file",
        "rpcpassword",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_read,
        help=text,
    )


def _read(_context: click.Context, _option: click.Parameter, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        password = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} cannot be read as text: {error}") from error
    if not password:
        raise click.BadParameter(f"the RPC password is empty: {path} holds none")
    return password
