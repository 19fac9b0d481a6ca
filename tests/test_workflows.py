"""The public CI, as far as it can be checked without running it. None of it has run yet."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import LIMIT

ROOT = Path(__file__).resolve().parent.parent
# The first major version of each action that runs on Node 24: GitHub takes Node 20 away.
NODE_24 = {
    "actions/checkout": 5,
    "actions/deploy-pages": 5,
    "actions/setup-node": 5,
    "actions/setup-python": 6,
    "actions/upload-artifact": 6,
    "actions/upload-pages-artifact": 5,
}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def test_the_five_workflows_are_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "ckpool", "compose", "release", "weekly"]


def test_zizmor_finds_nothing() -> None:
    """Injection, excess permissions, unpinned actions, and what else it knows."""
    zizmor = shutil.which("zizmor", path=str(Path(sys.executable).parent)) or shutil.which("zizmor")
    assert zizmor, "zizmor is among the packages for developers: make install"
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", str(ROOT / ".github")],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_to_a_commit_and_every_job_ends(path: Path) -> None:
    for name, job in loaded(path)["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 60, name
        assert set(job["permissions"].values()) <= {"read", "write"}, name
        for step in job["steps"]:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + 40 * "0"))
    assert loaded(path)["permissions"] == {}


def test_an_action_is_pinned_once_and_runs_on_a_node_that_is_still_there() -> None:
    pinned: dict[str, set[tuple[str, str]]] = {}
    for path in WORKFLOWS:
        for line in path.read_text("utf-8").splitlines():
            if found := re.search(r"uses: ([\w/-]+)@(\w+)(?: # v([\d.]+))?$", line):
                pinned.setdefault(found[1], set()).add((found[2], found[3]))
    assert pinned.keys() == NODE_24.keys()
    for action, [(_, version)] in pinned.items():
        assert int(version.split(".")[0]) >= NODE_24[action], action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_make_target_of_a_workflow_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in loaded(path)["jobs"].values():
        for step in job["steps"]:
            for called in re.findall(r"\bmake ((?!-C)[a-z -]+)", step.get("run", "")):
                assert set(called.split()) <= targets, called


def test_the_release_takes_its_notes_from_a_section_that_the_changelog_has() -> None:
    release = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    assert "CHANGELOG.md" in release
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"\n## {version[1]}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
