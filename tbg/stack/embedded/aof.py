"""Repairs the end of Valkey's append-only file after a power cut.

A file system may keep the new length of a file and lose what was written there: the
file then ends in zeros, and Valkey refuses to start. An operator keeps a copy and cuts
the end with ``valkey-check-aof --fix``; this does the same. That program is
valkey-server under another name.
"""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tbg.stack.embedded.server import EmbeddedError
from tbg.stack.privileges import give, run_as

FOLDER: Final = "appendonlydir"
MANIFEST: Final = "appendonly.aof.manifest"
END: Final = b"\r\n"  # of every command in the file


def repair(folder: Path, binary: Path, user: str | None) -> str | None:
    """Cuts what Valkey cannot read from the end of its append-only file.

    Args:
        folder: Valkey's, which holds ``appendonlydir``; nothing may use it now.
        binary: valkey-server.
        user: the system user that Valkey runs as, if not us.

    Returns:
        What was cut and where the copy is, or None if the file was sound.

    Raises:
        EmbeddedError: when the file cannot be repaired; the copy is kept.
        OSError: when there is no room for the copy, say; nothing is changed then.
    """
    path = _growing_file(folder / FOLDER)
    if path is None or _ends_well(path):
        return None
    before = path.stat().st_size
    kept = folder / f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    shutil.copyfile(path, kept)
    kept.chmod(0o600)
    give(kept, user)
    # The name it is called by decides what the binary does.
    done = subprocess.run(  # noqa: S603 our own binary and words
        ["valkey-check-aof", "--fix", str(path)],  # noqa: S607 see executable
        executable=binary,
        input="y\n",
        capture_output=True,
        text=True,
        cwd=folder,
        **run_as(user),
    )
    if done.returncode:
        raise EmbeddedError(
            f"{path} is damaged, and valkey-check-aof did not repair it; a copy is {kept}:\n"
            f"{done.stdout.strip()}\n{done.stderr.strip()}"
        )
    after = path.stat().st_size
    if after == before:  # it was sound after all
        kept.unlink()
        return None
    with kept.open("rb") as file:
        file.seek(after)
        zeros = file.read().count(0)
    return (
        f"{path.name} had a damaged end, as after a power cut: cut {before - after:,} bytes, "
        f"{zeros:,} of them zeros; the file as it was is {kept}; "
        "tbg ledger shows whether events are missing"
    )


def files_of(folder: Path) -> tuple[str, list[str]]:
    """The manifest's text, and the names of its files in the order in which Valkey reads them.

    Raises:
        FileNotFoundError: there is no manifest.
    """
    manifest = (folder / MANIFEST).read_text()
    return manifest, re.findall(r"^file (\S+) seq ", manifest, re.MULTILINE)


def _growing_file(folder: Path) -> Path | None:
    """The file that Valkey appends to: the last incremental one of its manifest."""
    try:
        manifest = (folder / MANIFEST).read_text()
    except FileNotFoundError:
        return None
    names = re.findall(r"^file (\S+) seq \d+ type i\b", manifest, re.MULTILINE)
    path = folder / names[-1] if names else None
    return path if path is not None and path.is_file() else None


def _ends_well(path: Path) -> bool:
    size = path.stat().st_size
    if size < len(END):
        return size == 0
    with path.open("rb") as file:
        file.seek(-len(END), os.SEEK_END)
        return file.read() == END
