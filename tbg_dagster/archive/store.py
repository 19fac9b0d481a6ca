"""Where archived days lie: a folder, or a bucket, and the manifest of each day.

A day is what its manifest names, and nothing else is read. A revision's files get names of their
own and are written in place: a bucket copies no object over 5 GiB. Then the manifest is replaced
by one move. So a reader that goes by the manifest sees the old revision or the new one, whole,
whenever the writer is killed or fails; what it left is overwritten or removed by the next one.

    manifests/2026-11-20.json
    shares/2026-11-20.1.parquet      the first revision
    events/2026-11-20.1.parquet
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs
from pydantic import ValidationError

from tbg_dagster.archive.manifest import File, Manifest

PART: Final = ".part"
_CHUNK: Final = 1 << 23  # one request each, in a bucket


class ArchiveError(Exception):
    """The archive cannot be used, or does not hold what it should; the text says what to do."""


class DamagedError(ArchiveError):
    """A manifest cannot be read."""


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Names the archive in the errors of its file system."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"the archive {place} (ARCHIVE_URL) failed: {error}") from error


class Store:
    """An archive.

    Args:
        filesystem: one of pyarrow's.
        root: path in it.
        place: what messages call it, without credentials.
    """

    def __init__(self, filesystem: fs.FileSystem, root: str, place: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self.place = place

    @classmethod
    def open(cls, url: str) -> Self:
        """Opens the archive that ``url`` names: a path, ``file://``, or ``s3://``.

        Raises:
            ArchiveError: when it names nothing that can be used.
        """
        parts = urlsplit(url)
        if parts.scheme in ("", "file"):
            path = Path(parts.path if parts.scheme else url).expanduser()
            # Programs have folders of their own, and would each have another archive.
            if not path.is_absolute():
                raise ArchiveError(f"ARCHIVE_URL is {path}, and must be an absolute path, or s3://")
            return cls(fs.LocalFileSystem(), str(path), str(path))
        place = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        if parts.scheme != "s3":
            raise ArchiveError(f"ARCHIVE_URL is {place}, and must be a folder or begin with s3://")
        try:
            filesystem, root = fs.FileSystem.from_uri(url)
        except (OSError, ValueError, pa.ArrowException):
            # Not the error's text: it repeats the URL, which may hold the secret key.
            raise ArchiveError(
                f"ARCHIVE_URL ({place}) is not a URL that pyarrow understands, such as "
                "s3://key:secret@bucket/path?region=eu-central-1"
            ) from None
        return cls(filesystem, root, place)

    def require(self) -> None:
        """Makes sure that there is something to read.

        Raises:
            ArchiveError: there is no such folder or bucket, or nothing in it.
        """
        with _named(self.place):
            found = self._fs.get_file_info(self._root)
        if found.type == fs.FileType.NotFound:
            raise ArchiveError(
                f"there is no archive at {self.place} (ARCHIVE_URL): look at the name, or wait "
                "until Dagster has written the first day"
            )
        if found.type == fs.FileType.File:
            raise ArchiveError(f"the archive {self.place} (ARCHIVE_URL) is a file and no folder")

    def days(self) -> list[date]:
        """The archived days, in order."""
        found = []
        for name in self.names("manifests"):
            stem, _, ending = name.partition(".")
            if ending == "json":
                with suppress(ValueError):  # not a file of ours
                    found.append(date.fromisoformat(stem))
        return sorted(found)

    def manifest(self, day: date) -> Manifest | None:
        """What a day's archive holds, or None if the day is not archived.

        Raises:
            ArchiveError: when the manifest is damaged.
        """
        path = self._path(_manifest_name(day))
        with _named(self.place):
            if self._fs.get_file_info(path).type == fs.FileType.NotFound:
                return None
            with self._fs.open_input_file(path) as file:
                text = file.read()
        try:
            found = Manifest.model_validate_json(text)
        except ValidationError as error:
            wrong = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, wrong["loc"])) or "the file"
            raise DamagedError(
                f"{_manifest_name(day)} in the archive {self.place} is damaged ({where}: "
                f"{wrong['msg']}): put it back from a copy; while the database has the day's rows, "
                "the day is archived again once the manifest is gone"
            ) from error
        if found.day != day:
            raise DamagedError(f"{_manifest_name(day)} in {self.place} is about {found.day}")
        return found

    def readable(self, day: date) -> Manifest | None:
        """As :meth:`manifest`; None also for one that is damaged, which holds up no other day."""
        try:
            return self.manifest(day)
        except DamagedError:
            return None

    def write(self, name: str, fill: Callable[[Any], None]) -> File:
        """Writes a file that no manifest names; ``fill`` gets the stream.

        The returned size and checksum are of what was read back.

        Raises:
            ArchiveError: when there is one of this name: another writer's, as ours are removed.
        """
        folder = name.rpartition("/")[0]
        with _named(self.place):
            if self._fs.get_file_info(self._path(name)).type != fs.FileType.NotFound:
                raise ArchiveError(f"{name} is in the archive already: {self._others()}")
            self._fs.create_dir(self._path(folder), recursive=True)
            with self._fs.open_output_stream(self._path(name)) as sink:
                fill(sink)
            # The day's rows are dropped on the strength of this file: it must outlast a power cut.
            self._sync(name)
            self._sync(folder)
        return self.measure(name)

    def measure(self, name: str) -> File:
        """Size and SHA-256 of a file, read from the archive.

        Raises:
            ArchiveError: when it is not there.
        """
        digest, size = hashlib.sha256(), 0
        with self.read(name) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return File(file=name, bytes=size, sha256=digest.hexdigest())

    def check(self, manifest: Manifest) -> None:
        """Reads a day's files and compares them with what their manifest says.

        Raises:
            ArchiveError: when one is another file.
        """
        for file in (manifest.shares, manifest.events):
            found = self.measure(file.file)
            if (found.bytes, found.sha256) != (file.bytes, file.sha256):
                raise ArchiveError(
                    f"{file.file} in the archive {self.place} is not the file of its manifest: "
                    f"{found.bytes} bytes and SHA-256 {found.sha256[:16]}…, not {file.bytes} and "
                    f"{file.sha256[:16]}…"
                )

    @contextmanager
    def read(self, name: str) -> Iterator[Any]:
        """A file of the archive, open for reading."""
        with _named(self.place), self._fs.open_input_file(self._path(name)) as file:
            yield file

    def commit(self, manifest: Manifest, before: Manifest | None) -> None:
        """Replaces a day's manifest: from here on the day is this revision.

        Raises:
            ArchiveError: when the manifest is not ``before`` any more, or a file is not as it
                was written: another database writes this archive. Its revision stands.
        """
        if self.manifest(manifest.day) != before:
            raise ArchiveError(f"{_manifest_name(manifest.day)} has changed: {self._others()}")
        self.check(manifest)
        text = (manifest.model_dump_json(indent=1) + "\n").encode()
        name = _manifest_name(manifest.day)
        # Beside its place, and then moved: a file that is being written is not whole.
        part = self.write(f"{name}.{secrets.token_hex(4)}{PART}", lambda sink: sink.write(text))
        with _named(self.place):
            self._fs.move(self._path(part.file), self._path(name))
            self._sync(name.rpartition("/")[0])

    def clean(self, day: date) -> None:
        """Removes what killed writers and older revisions left of a day.

        Call it while nobody else writes this day.
        """
        kept = {_manifest_name(day)}
        # As it is now: what it names is never removed.
        if (found := self.manifest(day)) is not None:
            kept |= {found.shares.file, found.events.file}
        for folder in ("shares", "events", "manifests"):
            for last in self.names(folder):
                name = f"{folder}/{last}"
                if last.startswith(f"{day}.") and name not in kept:
                    with _named(self.place):
                        self._fs.delete_file(self._path(name))

    def names(self, folder: str) -> list[str]:
        """The files of a folder: ``shares``, ``events`` or ``manifests``."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        with _named(self.place):
            return [info.base_name for info in self._fs.get_file_info(selector)]

    def _others(self) -> str:
        return (
            f"another database writes the archive {self.place}, and each needs an ARCHIVE_URL of "
            "its own; if none does, archive the day again"
        )

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _sync(self, name: str) -> None:
        if not isinstance(self._fs, fs.LocalFileSystem):
            return
        descriptor = os.open(self._path(name), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _manifest_name(day: date) -> str:
    return f"manifests/{day}.json"
