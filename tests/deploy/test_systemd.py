"""The units of systemd: valid, locked down, and about programs and settings that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tbg.cli import main
from tests.processes import LIMIT, ROOT

FOLDER = ROOT / "deploy/systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
# What `systemd-analyze security` gives at most; 0 is locked in, 10 is open.
EXPOSURE = 1.5
# Of the machine itself, and nothing to do with us.
OTHERS = [
    *("sysinit.target", "basic.target", "shutdown.target", "network-online.target"),
    *("multi-user.target", "-.slice", "system.slice", "-.mount", "tmp.mount"),
]

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root folder with the units and stand-ins for what they run."""
    units = tmp_path / "etc/systemd/system"
    shutil.copytree(FOLDER, units)
    for name in OTHERS:
        where = "[Mount]\nWhat=x\nWhere=/tmp\n" if name == "tmp.mount" else ""
        (units / name).write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n{where}")
    (units / "-.mount").unlink()
    commands = tmp_path / "opt/tbg/bin"
    commands.mkdir(parents=True)
    for program in {words[0] for words in started().values()} | {"/opt/tbg/bin/python"}:
        (tmp_path / program.lstrip("/")).write_text("#!/bin/sh\n")
        (tmp_path / program.lstrip("/")).chmod(0o755)
    return tmp_path


def started() -> dict[str, list[str]]:
    """The command line of each service."""
    found = {}
    for path in SERVICES:
        [line] = re.findall(r"^ExecStart=(.+)$", path.read_text(), re.MULTILINE)
        found[path.name] = line.split()
    return found


def analyze(*words: object) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )
    return done.stdout


@needs_systemd
def test_systemd_finds_nothing_wrong(machine: Path) -> None:
    units = [path.name for path in (*SERVICES, FOLDER / "tbg.target")]
    said = analyze("verify", f"--root={machine}", "--man=no", *units)
    assert not [line for line in said.splitlines() if "tbg" in line], said


@needs_systemd
@pytest.mark.parametrize("name", [path.name for path in SERVICES])
def test_a_service_is_locked_down(name: str, machine: Path) -> None:
    said = analyze("security", "--offline=true", f"--root={machine}", name)
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= EXPOSURE, said


@pytest.mark.parametrize(
    "name", [name for name, words in started().items() if "bin/tbg" in words[0]]
)
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    result = CliRunner().invoke(main, [*started()[name][1:], "--help"])
    assert result.exit_code == 0, result.output


def test_dagster_loads_the_code_by_the_name_that_the_unit_says() -> None:
    words = started()["tbg-dagster-code.service"]
    assert words[words.index("--module-name") + 1] == "tbg.definitions"
    pytest.importorskip("dagster", reason="the extra batch is not installed")
    from tbg.definitions import defs
    from tbg_dagster.definitions import defs as ours

    assert defs is ours


def test_what_stands_for_all_is_said_by_no_unit() -> None:
    """The common file is read last and would win."""
    common = set(re.findall(r"^(\w+)=", (FOLDER / "tbg-.service.d/common.conf").read_text(), re.M))
    lists = {"After", "Wants", "Environment", "ReadWritePaths"}
    for path in SERVICES:
        said = set(re.findall(r"^(\w+)=", path.read_text(), re.M))
        assert not (said & common) - lists, path.name


def test_the_page_names_every_file() -> None:
    page = (ROOT / "docs/without-docker.md").read_text()
    assert "deploy/systemd" in page
    for path in (*SERVICES, *FOLDER.glob("*.conf"), *FOLDER.glob("*.yaml")):
        name = path.name.removesuffix(".service").removeprefix("tbg-")
        assert name in page, path.name
