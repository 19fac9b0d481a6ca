"""The program on the page "Check your best": forty lines that need nothing of ours."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tbg.migrate import sql_folder
from tests.forged import (
    BTC,
    CRAFTED,
    DEFORMED,
    FORGERIES,
    HONEST,
    OTHER_USER,
    USER,
    Change,
    crafted,
    forged,
    genuine,
)
from tests.processes import LIMIT
from tests.tbg.test_verify import PREV, Verify, fill, verify, written

__all__ = ["verify"]  # the fixture

PAGE = sql_folder().parent / "docs" / "check-your-best.md"
WEEK = genuine()["data"]["week"]
HASH = genuine()["data"]["hash"]


def program() -> str:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def checked(path: Path, *arguments: str, how: str = "-S") -> subprocess.CompletedProcess[str]:
    """Runs the page's program on a file, without any package."""
    code = path.with_suffix(".py")
    code.write_text(program())
    return subprocess.run(
        [sys.executable, "-I", "-S", how, str(code), str(path), *arguments],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def test_the_program_is_short_and_needs_nothing() -> None:
    assert len(program().splitlines()) <= 40
    imported = re.findall(r"^(?:import|from) (.*)", program(), re.MULTILINE)
    assert imported == ["hashlib, json, sys, time"]
    assert "assert" not in program()  # python -O leaves them out


def test_what_we_export_is_accepted(verify: Verify, database_url: str, tmp_path: Path) -> None:
    data = genuine()["data"]
    fill(database_url, data)
    path = tmp_path / "proof.json"
    path.write_text(verify(HASH, "--json").output)
    done = checked(path)
    assert done.returncode == 0, done.stderr
    assert f"{HASH}: difficulty {data['new_best_diff']:.12g}, pays {data['user']}" in done.stdout
    assert "/TheBitcoinGame/alice/" in done.stdout
    assert PREV in done.stdout


def test_a_week_is_checked_share_by_share_and_names_whom_no_proof_came_from(
    verify: Verify, database_url: str, tmp_path: Path
) -> None:
    data = genuine()["data"]
    unproven = {**data, "user": OTHER_USER, "hash": "ab" * 32}
    fill(database_url, unproven, proof=False, rank=1)
    fill(database_url, data, rank=2)
    path = tmp_path / "week.json"
    path.write_text(verify("--week", WEEK, "--json").output)
    done = checked(path)
    assert (done.returncode, HASH in done.stdout) == (1, True)
    assert OTHER_USER in done.stderr


@pytest.mark.parametrize("how", ["-S", "-O"])
@pytest.mark.parametrize("name", HONEST)
def test_who_is_paid_most_is_told_how_much(tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / "proof.json"
    path.write_text(HONEST[name])
    done = checked(path, how=how)
    assert done.returncode == 0, done.stderr
    assert f"pays {USER}" in done.stdout


def test_the_amount_and_its_part_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(crafted([(150 * BTC, USER), (50 * BTC, OTHER_USER)])))
    assert f"pays {USER} 15000000000 satoshis, 75.00%" in checked(path).stdout


@pytest.mark.parametrize("how", ["-S", "-O"])
@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_proof_is_refused(tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / "proof.json"
    path.write_text(CRAFTED[name])
    done = checked(path, how=how)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("name", sorted(set(FORGERIES) - {"address with a wrong checksum"}))
def test_a_forged_proof_is_refused(tmp_path: Path, name: str) -> None:
    assert checked(written(tmp_path / "proof.json", forged(FORGERIES[name][0]))).returncode == 1


@pytest.mark.parametrize("change", [DEFORMED["truncated header"], DEFORMED["non-hex"]])
def test_what_is_no_proof_is_refused(tmp_path: Path, change: Change) -> None:
    assert checked(written(tmp_path / "proof.json", forged(change))).returncode == 1


def test_the_signature_comes_from_the_command_line_and_not_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(crafted([(BTC, USER)], "/OtherPool/")))
    assert "another pool" in checked(path).stderr
    assert checked(path, "/OtherPool/").returncode == 0
    assert checked(path, "").returncode == 1
