"""Dagster's own tables, brought up to date when another version of Dagster comes."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psycopg

from tbg_core.database import libpq_url, open_connection
from tbg_core.files import write_private

# What Dagster's tables are, by its own migrations; the version that last looked at them.
MIGRATED: Final = "migrated"


def migrate(home: Path, storage: str, environment: dict[str, str]) -> str | None:
    """Runs ``dagster instance migrate`` where it may have work to do.

    It takes seconds: after the same version has done it on tables that are as it left
    them, there is nothing to do. New tables are made as they should be.

    Args:
        home: DAGSTER_HOME, with its dagster.yaml.
        storage: URL of Dagster's own database.
        environment: of Dagster's programs.

    Returns:
        What there is to say. A migration that fails stops nothing: Dagster works on with older
        tables, or says what it lacks.
    """
    try:
        if (found := _revision(storage)) is None:
            return None
        file = home / MIGRATED
        if file.exists() and file.read_text() == _mark(found):
            return None
        done = subprocess.run(
            [sys.executable, "-m", "dagster", "instance", "migrate"],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1]
            return f"Dagster's tables were not brought up to date, and are used as they are: {last}"
        after = _revision(storage)
        write_private(file, _mark(after))
    except (psycopg.Error, OSError) as error:
        return f"Dagster's tables could not be looked at: {str(error).strip().splitlines()[0]}"
    return None if after == found else f"Dagster's tables were brought up to date: {after}"


def _mark(revision: str | None) -> str:
    return f"{version('dagster')} {revision}\n"


def _revision(storage: str) -> str | None:
    """The revision of Dagster's tables; None where there are none yet."""
    with open_connection(libpq_url(storage)) as database:
        row = database.execute("select to_regclass('alembic_version') is not null").fetchone()
        if row != (True,):
            return None
        found = database.execute("select version_num from alembic_version").fetchall()
        return " ".join(sorted(str(one) for (one,) in found)) or None
