"""The system user that the embedded servers run as."""

import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tbg.stack import privileges

STACKS = 4


@pytest.fixture(autouse=True)
def _as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "LOCK", tmp_path / "lock")


def test_stacks_that_start_at_the_same_moment_make_the_system_user_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second useradd at the same moment succeeds, and gives the user another number."""
    users = tmp_path / "users"
    made = tmp_path / "made"
    all_found_none = Barrier(STACKS)
    asked: list[str] = []

    def look(name: str) -> pwd.struct_passwd:
        asked.append(name)
        if len(asked) <= STACKS:
            all_found_none.wait()
            raise KeyError(name)
        if not users.exists():
            raise KeyError(name)
        return pwd.getpwuid(os.getuid())

    # Ours, since the real one would change the machine: as slow between look and entry.
    useradd = tmp_path / "useradd"
    useradd.write_text(f'#!/bin/sh\necho "$@" >> {made}\nsleep 0.3\ntouch {users}\n')
    useradd.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(pwd, "getpwnam", look)

    with ThreadPoolExecutor(STACKS) as stacks:
        names = list(stacks.map(lambda _: privileges.service_user(), range(STACKS)))

    assert names == [privileges.SYSTEM_USER] * STACKS
    assert made.read_text().splitlines() == [
        f"--system --shell /usr/sbin/nologin {privileges.SYSTEM_USER}"
    ]


def test_a_system_user_that_cannot_be_made_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(privileges, "SYSTEM_USER", "no:user")

    with pytest.raises(RuntimeError, match=r"no:user could not be made .* make it"):
        privileges.service_user()


def test_a_lock_that_cannot_be_had_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(privileges, "SYSTEM_USER", "no:user")
    monkeypatch.setattr(privileges, "LOCK", tmp_path / "missing" / "lock")

    with pytest.raises(RuntimeError, match=r"missing/lock.* make it"):
        privileges.service_user()
