"""The file of a backup: what may be in it, in which order, and how it is checked.

A gzipped tar. Its first member says what it is, its last one has the SHA-256 of all others: what
was cut off has no such end. Between them are the files of a state folder, by their path in it.
"""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import click

FORMAT: Final = 1
HEAD: Final = "tbg-backup.json"
SUMS: Final = "SHA256SUMS"
# What of a state folder is in a backup. Logs are not, nor what each start makes again.
FOLDERS: Final = ("postgres", "spool", "valkey", "pool", "node", "dagster", "run")
FILES: Final = ("secrets.json",)
_BLOCK: Final = 1 << 20


class BackupError(click.ClickException):
    """A backup cannot be made or used; the message says why."""


class Writer:
    """Writes the members of a backup to ``file``, in the order of the calls."""

    def __init__(self, file: IO[bytes], head: dict[str, Any]) -> None:
        # Fast rather than small: what weighs most, PostgreSQL's pages, gets small anyway.
        self._tar = tarfile.open(fileobj=file, mode="w:gz", compresslevel=1)  # noqa: SIM115  closed by finish
        self._sums: list[str] = []
        self._text(HEAD, json.dumps({"format": FORMAT, **head}, indent=2))

    def folder(self, name: str) -> None:
        """Adds a folder, which may stay empty."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o700
        self._tar.addfile(entry)

    def file(self, name: str, content: IO[bytes], size: int) -> None:
        """Adds a file of exactly ``size`` bytes.

        Raises:
            OSError: ``content`` has fewer.
        """
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o600
        reading = _Summed(content)
        self._tar.addfile(entry, reading)
        self._sums.append(f"{reading.sum.hexdigest()}  {name}\n")

    def _text(self, name: str, text: str) -> None:
        raw = text.encode()
        self.file(name, io.BytesIO(raw), len(raw))

    def tree(self, folder: Path, name: str) -> None:
        """Adds a folder with what is in it, except sockets and locks.

        Raises:
            BackupError: there is a link, which would lead elsewhere after a restore.
        """
        if not folder.is_dir():
            return
        self.folder(name)
        for path in sorted(folder.iterdir()):
            inner = f"{name}/{path.name}"
            if path.is_symlink():
                raise BackupError(f"{path} is a link, and a backup cannot hold one")
            if path.is_dir():
                self.tree(path, inner)
            elif path.is_file():
                try:
                    file = path.open("rb")
                except FileNotFoundError:
                    continue  # it went away while we looked
                with file:
                    # What is appended meanwhile is newer than the backup.
                    self.file(inner, file, os.fstat(file.fileno()).st_size)

    def finish(self) -> None:
        """Writes the end."""
        self._text(SUMS, "".join(self._sums))
        self._tar.close()


class _Summed:
    """A file whose SHA-256 is taken while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.sum.update(block)
        return block


def _head_of(tar: tarfile.TarFile, path: Path) -> tuple[dict[str, Any], str]:
    """Reads the first member; returns what it says, and its SHA-256.

    Raises:
        BackupError: the file is no backup, or one of a format that this version does not know.
    """
    entry = tar.next()
    if entry is None or entry.name != HEAD or not entry.isfile() or entry.size > _BLOCK:
        raise BackupError(f"{path} is no backup of tbg: it does not begin with {HEAD}")
    file = tar.extractfile(entry)
    assert file is not None
    raw = file.read()
    head: dict[str, Any] = json.loads(raw)
    if head.get("format") != FORMAT:
        raise BackupError(
            f"{path} has format {head.get('format')}, and this version reads {FORMAT}: "
            "restore it with the version that made it, then upgrade"
        )
    return head, hashlib.sha256(raw).hexdigest()


def unpack(path: Path, target: Path | None) -> dict[str, Any]:
    """Reads a whole backup, checks every byte of it, and writes it to ``target``.

    Args:
        target: an empty folder; None writes nothing.

    Returns:
        What its first member says.

    Raises:
        BackupError: it is damaged, cut short, no backup, or has a member that would lie elsewhere.
    """
    found: dict[str, str] = {}
    sums: str | None = None
    try:
        with tarfile.open(path, mode="r|gz") as tar:
            head, found[HEAD] = _head_of(tar, path)
            while (entry := tar.next()) is not None:
                if sums is not None:
                    raise BackupError(f"{path} goes on after its end: it is damaged")
                if entry.name == SUMS:
                    file = tar.extractfile(entry)
                    assert file is not None
                    sums = file.read().decode()
                    continue
                _check(entry, path)
                place = None if target is None else target / entry.name
                if entry.isdir():
                    if place is not None:
                        place.mkdir(mode=0o700)
                    continue
                if entry.name in found:
                    raise BackupError(f"{path} has {entry.name!r} twice")
                content = tar.extractfile(entry)
                assert content is not None
                found[entry.name] = _copy(content, place)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise BackupError(f"{error.filename or target}: {error.strerror}") from error
        raise BackupError(f"{path} is damaged or no backup of tbg: {error}") from error
    if sums is None:
        raise BackupError(f"{path} is cut short: it has no {SUMS} at its end")
    wanted = {
        name: digest
        for digest, _, name in (line.partition("  ") for line in sums.split("\n"))
        if name
    }
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise BackupError(f"{path} is damaged: {name!r} is not what was put into it")
    return head


def _check(entry: tarfile.TarInfo, path: Path) -> None:
    """Makes sure that a member belongs into a state folder.

    Raises:
        BackupError: it would lie elsewhere, or is neither a file nor a folder.
    """
    parts = PurePosixPath(entry.name).parts
    within = (
        not entry.name.startswith("/")
        and bool(parts)
        and ".." not in parts
        and "\0" not in entry.name
        and (parts[0] in FOLDERS or (len(parts) == 1 and parts[0] in FILES))
    )
    if not within or not (entry.isfile() or entry.isdir()) or entry.issparse():
        raise BackupError(f"{path} holds {entry.name!r}, which no backup of tbg has: refused")


def _copy(content: IO[bytes], place: Path | None) -> str:
    """Writes a member where it belongs, readable by its owner alone; returns its SHA-256."""
    digest = hashlib.sha256()
    out = None if place is None else place.open("xb")
    try:
        while block := content.read(_BLOCK):
            digest.update(block)
            if out is not None:
                out.write(block)
    finally:
        if out is not None:
            out.close()
    if place is not None:
        place.chmod(0o600)
    return digest.hexdigest()
