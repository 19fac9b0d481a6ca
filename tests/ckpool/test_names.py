"""Stratum user names, split by the C module as by the devnet pool."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

CASES = json.loads((Path(__file__).parent.parent / "events" / "usernames.json").read_bytes())


def test_user_names_are_split_as_the_shared_table_says(program: Callable[[str], Path]) -> None:
    names = b"".join(case["username"].encode() + b"\0" for case in CASES)
    lines = subprocess.run(
        [program("names")], input=names, check=True, capture_output=True, timeout=60
    ).stdout.split(b"\n")[:-1]
    assert len(lines) == len(CASES) > 20
    for case, line in zip(CASES, lines, strict=True):
        if not case["user"]:
            assert line == b"", case
            continue
        data = json.loads(line)["data"]
        assert (data["user"], data["worker"]) == (case["user"], case["worker"]), case
