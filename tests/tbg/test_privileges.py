"""The system user that the embedded servers run as."""

import os
import pwd

import pytest

from tbg import privileges


def test_a_system_user_that_another_process_makes_at_the_same_moment_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = pwd.getpwnam
    asked: list[str] = []

    def not_at_first(name: str) -> pwd.struct_passwd:
        asked.append(name)
        if len(asked) == 1:
            raise KeyError(name)
        return found(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", not_at_first)
    # Every system has this user, so that the real useradd refuses to make it.
    monkeypatch.setattr(privileges, "SYSTEM_USER", "nobody")

    assert privileges.service_user() == "nobody"


def test_a_system_user_that_cannot_be_made_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(privileges, "SYSTEM_USER", "no:user")

    with pytest.raises(RuntimeError, match=r"no:user could not be made .* make it"):
        privileges.service_user()
