"""SQL files that stand beside the asset that runs them."""

from functools import cache
from importlib import resources
from typing import LiteralString


@cache
def query(package: str, name: str) -> LiteralString:
    """Returns the text of ``name`` (``*.sql``) in ``package``.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    # A file of this package is as literal as a string in its source.
    return (resources.files(package) / name).read_text(encoding="utf-8")
