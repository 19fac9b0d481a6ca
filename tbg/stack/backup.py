"""``tbg backup``: the data of a stack in one file, while it runs or after it has stopped.

Of a stack that runs, what comes later on the way of an event is copied first: the database, the
spool, the streams, the pool, the chain. An event that moves on meanwhile is then there twice, which
offsets and marks recognise, and never nowhere. The end of the database's copy is one moment:
what was committed by then. The streams still have what was not, as the writer trims only what is long
committed; that is checked.
"""

import contextlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final

import click
import psutil
import psycopg
import redis

from tbg import outputs
from tbg.options import json_option
from tbg.servers import connect
from tbg.stack.backup_file import FILES, BackupError, Writer, unpack
from tbg.stack.embedded.aof import FOLDER as AOF
from tbg.stack.embedded.aof import MANIFEST, files_of
from tbg.stack.embedded.postgres import VERSION as POSTGRES
from tbg.stack.embedded.postgres import binaries
from tbg.stack.ports import HOST
from tbg.stack.state import Stack, State, state_option
from tbg.stack.supervisor import Supervisor, leftovers
from tbg_core.backlog import find_places, slowest
from tbg_core.boots import SUFFIX
from tbg_core.entry import id_key
from tbg_core.files import sync_folder

_SLOT: Final = "tbg_backup"
_MARK: Final = "tbg:backup"  # written and deleted, so that the disk has all before it


def back_up(state: State, target: Path) -> dict[str, Any]:
    """Writes a backup of a state folder, and reads it again.

    Args:
        target: must not exist. It is there whole, or not at all.

    Returns:
        What the backup says of itself.

    Raises:
        BackupError: when there is nothing to back up, or it cannot be done.
    """
    if target.exists():
        raise BackupError(f"{target} is there already: name another file, or remove it")
    if not (state.path / "secrets.json").exists():
        raise BackupError(f"{state.never_started}, or name its folder with --state")
    running = state.holder() is not None
    if not running and (left := leftovers(state)):
        raise BackupError(
            f"{len(left)} programs of a stack that was killed still run in {state.path}: "
            "end them by tbg down first"
        )
    stack = state.read_stack()
    if stack is None or not {"postgres", "valkey"} <= set(stack.programs):
        raise BackupError(
            f"the stack in {state.path} has its database or Redis elsewhere: "
            "back up those by their own means"
        )
    head = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("tbg-mining-data"),
        "postgresql": POSTGRES,
        "of_a_running_stack": running,
    }
    try:
        with contextlib.ExitStack() as exits:
            if not running:
                exits.enter_context(state.hold())  # nothing starts meanwhile
            fresh, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            exits.callback(Path(name).unlink, missing_ok=True)
            with open(fresh, "wb") as file:
                writer = Writer(file, head)
                for one in FILES:
                    with (state.path / one).open("rb") as content:
                        writer.file(one, content, os.fstat(content.fileno()).st_size)
                (_running if running else _stopped)(state, stack, writer)
                writer.finish()
                file.flush()
                os.fsync(file.fileno())
            unpack(Path(name), None)
            Path(name).rename(target)
            sync_folder(target.parent)
    except (OSError, psycopg.Error, redis.RedisError, psutil.Error) as error:
        raise BackupError(f"no backup was written: {error}") from error
    return head


def _stopped(state: State, _: Stack, writer: Writer) -> None:
    writer.tree(state.path / "postgres", "postgres")
    writer.tree(state.path / "spool", "spool")
    writer.tree(state.path / "valkey", "valkey")
    _rest(state, writer)
    # What engines left to say of their ends.
    writer.folder("run")
    for page in sorted(state.runtime.glob(f"*{SUFFIX}")):
        with page.open("rb") as file:
            writer.file(f"run/{page.name}", file, os.fstat(file.fileno()).st_size)


def _running(state: State, stack: Stack, writer: Writer) -> None:
    committed = _offsets(stack)
    _postgres(state, stack, writer)
    writer.tree(state.path / "spool", "spool")
    client = redis.Redis.from_url(stack.redis_url)
    try:
        _valkey(state, client, writer)
        for key, last in committed.items():
            found: Any = client.xinfo_stream(key) if client.exists(key) else {}
            gone = found.get("max-deleted-entry-id", b"0-0").decode()
            if id_key(gone) > id_key(last):
                raise BackupError(
                    f"{key} was trimmed beyond what the backup of the database has: "
                    "try again, with a greater STREAM_KEEP, or after tbg down"
                )
    finally:
        client.close()
    with _frozen(state, "node"):
        _rest(state, writer)
    # Without the pages of engines: they go on, and how far is not known to what is restored.


def _rest(state: State, writer: Writer) -> None:
    for name in ("pool", "node", "dagster"):
        writer.tree(state.path / name, name)


def _offsets(stack: Stack) -> dict[str, str]:
    """The last committed entry of each stream, by the stream's key."""
    with connect(stack.database_url) as database:
        return {place.key: place.last_id for place in slowest(find_places(database))}


def _postgres(state: State, stack: Stack, writer: Writer) -> None:
    """Copies the cluster as of the end of the copy, with the log that makes it whole."""
    port = str(psycopg.conninfo.conninfo_to_dict(stack.database_url)["port"])
    password = state.secrets().postgres
    login = {"PGPASSWORD": password, "PGUSER": "postgres", "PGHOST": HOST, "PGPORT": port}
    with connect(f"postgresql://postgres:{password}@{HOST}:{port}/postgres") as database:
        # Keeps the log until we have read it. It ends with this connection.
        database.execute(
            "select pg_create_physical_replication_slot(%s, true, true)",
            [f"{_SLOT}_{os.getpid()}"],
        )
        command = [str(binaries() / "pg_basebackup"), "--pgdata=-", "--format=tar"]
        command += ["--wal-method=fetch", "--checkpoint=fast", "--no-password"]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(  # noqa: S603 our own binary and words
                command,
                env={**os.environ, **login},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            try:
                assert process.stdout is not None
                with process.stdout as stream, contextlib.suppress(tarfile.ReadError):
                    _pass_on(stream, writer)
            finally:
                if process.wait() != 0:
                    errors.seek(0)
                    said = errors.read().decode(errors="replace").strip()
                    raise BackupError(f"pg_basebackup: {said or process.returncode}")


def _pass_on(stream: IO[bytes], writer: Writer) -> None:
    writer.folder("postgres")
    writer.folder("postgres/data")
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        while (entry := tar.next()) is not None:
            name = f"postgres/data/{entry.name.removeprefix('./')}"
            if entry.isdir():
                writer.folder(name.rstrip("/"))
            elif entry.isfile():
                content = tar.extractfile(entry)
                assert content is not None
                writer.file(name, content, entry.size)
            else:
                raise BackupError(f"{entry.name} of the database is a link: tablespaces elsewhere")


def _valkey(state: State, client: "redis.Redis", writer: Writer) -> None:
    """Copies the append-only files, with everything that Valkey has answered to by now."""
    with client.pipeline(transaction=False) as pipe:
        pipe.set(_MARK, "1")
        pipe.delete(_MARK)
        pipe.execute_command("WAITAOF", 1, 0, 0)
        pipe.execute()
    folder = state.path / "valkey" / AOF
    while True:
        with contextlib.ExitStack() as exits:
            # Open files stay whole when Valkey writes new ones meanwhile, and removes these.
            try:
                manifest, names = files_of(folder)
                files = [exits.enter_context((folder / name).open("rb")) for name in names]
                if files_of(folder) != (manifest, names):
                    continue
            except FileNotFoundError:
                continue
            writer.folder("valkey")
            writer.folder(f"valkey/{AOF}")
            for name, file in zip(names, files, strict=True):
                writer.file(f"valkey/{AOF}/{name}", file, os.fstat(file.fileno()).st_size)
            raw = manifest.encode()
            with tempfile.TemporaryFile() as text:
                text.write(raw)
                text.seek(0)
                writer.file(f"valkey/{AOF}/{MANIFEST}", text, len(raw))
            return


@contextlib.contextmanager
def _frozen(state: State, name: str) -> Iterator[None]:
    """Holds a program for a moment: its files are then as a kill would leave them."""
    found = Supervisor(state).processes().get(name)
    if found is None or not found.running:
        yield
        return
    process = psutil.Process(found.pid)
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@state_option
@json_option
def command(file: Path, state_path: Path, as_json: bool) -> None:
    """Write the data of a stack to FILE, while it runs or when it has stopped.

    Database, streams, spool, pool, chain and Dagster's state, and the passwords: keep it as you
    keep those. Without logs. FILE appears when it is whole and has been read again. The
    stack works on meanwhile; its own regtest node pauses while the chain is copied.

    \b
    Examples:
      tbg backup /backups/tbg-$(date +%F).tar.gz
    """
    head = back_up(State(state_path), file.resolve())
    size = file.stat().st_size
    if as_json:
        outputs.show_line(outputs.BackedUp, {"file": str(file), "bytes": size, **head})
    else:
        click.echo(f"{file}: {size / 1e6:,.1f} MB, checked; restore it with tbg restore")
