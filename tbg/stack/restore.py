"""``tbg restore``: makes a state folder from a backup."""

import os
import shutil
import subprocess
from pathlib import Path

import click

from tbg.stack.backup_file import BackupError, unpack
from tbg.stack.embedded.postgres import VERSION as POSTGRES
from tbg.stack.embedded.postgres import binaries
from tbg.stack.privileges import give, service_user
from tbg.stack.state import State, state_option
from tbg_core.files import sync_folder


def restore(file: Path, state: State) -> dict[str, object]:
    """Makes a state folder from a backup: whole and checked, or not at all.

    Args:
        state: its folder must not exist, or be empty.

    Returns:
        What the backup says of itself.

    Raises:
        BackupError: when the backup cannot be used, or there is something in the folder.
    """
    path = state.path
    if state.holder() is not None:
        raise BackupError(f"a stack is running in {path}: restore to another --state")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BackupError(f"{path} is not empty: restore to another --state, or move it away")
    fresh = path.with_name(f".{path.name}.restoring-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir(mode=0o700)
        head = unpack(file, fresh)
        if head.get("postgresql") != POSTGRES:
            raise BackupError(
                f"{file} has a database of PostgreSQL {head.get('postgresql')}, and this is "
                f"{POSTGRES}: restore it with the version that made it"
            )
        _check_database(fresh / "postgres" / "data", file)
        for name in ("postgres", "valkey"):
            _give(fresh / name)
        os.sync()
        if path.exists():
            path.rmdir()
        fresh.rename(path)
        sync_folder(path.parent)
        # Where engines' pages belong is known only now: sockets need short paths.
        _move_pages(state)
    except OSError as error:
        raise BackupError(f"nothing was restored: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return head


def _check_database(data: Path, file: Path) -> None:
    """Lets PostgreSQL itself check the copy that it made of a running cluster."""
    if not (data / "PG_VERSION").exists():
        raise BackupError(f"{file} has no database: it is no backup of a stack")
    if not (data / "backup_manifest").exists():
        return
    done = subprocess.run(  # noqa: S603 our own binary and words
        [str(binaries() / "pg_verifybackup"), "--quiet", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BackupError(f"pg_verifybackup refuses the database of {file}: {done.stderr.strip()}")


def _give(folder: Path) -> None:
    """Hands a folder and what is in it to the user that the embedded servers run as."""
    user = service_user()
    for path in [folder, *folder.rglob("*")]:
        give(path, user)


def _move_pages(state: State) -> None:
    beside = state.path / "run"
    if not beside.is_dir() or state.runtime == beside:
        return
    state.make_runtime()
    for page in beside.iterdir():
        shutil.move(page, state.runtime / page.name)
    beside.rmdir()


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@state_option
def command(file: Path, state_path: Path) -> None:
    """Make a state folder from FILE, which tbg backup wrote.

    Every byte is checked. The folder of --state must not exist, or be empty; nothing
    is left there unless everything is.

    \b
    Examples:
      tbg restore /backups/tbg-2026-11-30.tar.gz --state .tbg
    """
    state = State(state_path)
    head = restore(file, state)
    click.echo(
        f"{state.path} is as it was at {head['made']}: look at it with tbg up{state.option}, "
        f"then tbg ledger --audit{state.option}"
    )
