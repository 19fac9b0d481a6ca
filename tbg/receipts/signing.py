"""An operator's signature, which no check of a receipt needs."""

from pathlib import Path
from typing import Final

import click

key_option: Final = click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="TBG_RECEIPT_KEY",
    show_envvar=True,
    help="Sign with this ed25519 key (PEM), or TBG_RECEIPT_KEY; writes FILE.sig beside the file.",
)


def sign(path: Path, key: Path) -> Path:
    """Writes the signature of a file's bytes beside it; returns its path.

    Raises:
        click.ClickException: when the key is no ed25519 key, or cannot be read.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError as error:
        raise click.ClickException(
            "a signature needs cryptography: pip install 'tbg-mining-data[receipts]'"
        ) from error
    try:
        found = load_pem_private_key(key.read_bytes(), None)
    except (OSError, TypeError, ValueError) as error:
        raise click.ClickException(f"{key} (TBG_RECEIPT_KEY) cannot be read: {error}") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise click.ClickException(
            f"{key} (TBG_RECEIPT_KEY) is no ed25519 key: openssl genpkey -algorithm ed25519"
        )
    signature = path.with_name(f"{path.name}.sig")
    signature.write_bytes(found.sign(path.read_bytes()))
    return signature
