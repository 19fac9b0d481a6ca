"""The wheel: what it brings, in an environment of its own and an empty folder."""

import json
import os
import subprocess
import sysconfig
import zipfile
from pathlib import Path
from venv import EnvBuilder

import pytest

from tbg.stack.counts import ACCEPTED, REJECTED
from tests.processes import LIMIT, PYTHON, ROOT
from tests.tbg.command import environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel, without this checkout.

    What the wheel needs is taken from ours. A package of another is there that is called
    `ingest` too.
    """
    folder = tmp_path_factory.mktemp("venv")
    EnvBuilder(symlinks=True).create(folder)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # Our own .pth files, which lead to the checkout, are not read from there.
    (packages / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (packages / "ingest.py").write_text("foreign = True\n")
    pip = [PYTHON, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    return folder / "bin"


def run(*words: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    outside = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=outside,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def test_it_brings_one_name(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"tbg"}


def test_its_page_on_an_index_has_no_link_into_the_folder_of_the_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        [name] = (name for name in packed.namelist() if name.endswith("/METADATA"))
        page = packed.read(name).decode()
    links = [part.split(")")[0] for part in page.split("](")[1:]]
    assert len(links) > 10
    assert not [link for link in links if not link.startswith("https://")]


def test_a_package_of_another_with_the_name_of_a_room_stays_what_it_is(
    commands: Path, tmp_path: Path
) -> None:
    done = run(commands / "python", "-c", "import ingest; print(ingest.foreign)", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True\n", "")
    ours = "import tbg, ingest.settings, sys; print(ingest.settings.__file__)"
    done = run(commands / "python", "-c", ours, cwd=tmp_path)
    assert str(commands.parent) in done.stdout, done.stderr


def test_the_pages_are_there_to_read(wheel: Path, commands: Path, tmp_path: Path) -> None:
    done = run(commands / "tbg", "help", "guarantees", cwd=tmp_path)
    assert "What is guaranteed, and what is not" in done.stdout, done.stderr
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if "/docs/" in name}
    assert packed == {f"tbg/rooms/docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("words", [["docs"], ["init"]])
def test_a_command_that_needs_a_checkout_says_so(
    words: list[str], commands: Path, tmp_path: Path
) -> None:
    done = run(commands / "tbg", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "needs a checkout of the repository" in done.stderr
    assert not os.listdir(tmp_path)


@pytest.mark.timeout(600)
def test_in_an_empty_folder_every_event_reaches_every_store(commands: Path, tmp_path: Path) -> None:
    """tbg smoke: real shares, mined, and the counts of every hop agree."""
    done = run(commands / "tbg", "smoke", "--json", "--seconds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["events"][ACCEPTED]["database"] >= 10
    assert found["events"][REJECTED]["database"] >= 1
    assert found["events"]["block_found"]["database"] == found["blocks"] >= 1
    for kind, hops in found["events"].items():
        assert hops["emitted"] == hops["redis"] == hops["database"], kind
    assert found["latency_ms"]["redis"]["shares"] == found["latency_ms"]["database"]["shares"]
    assert not os.listdir(tmp_path)


def test_dagster_finds_the_batch_side(commands: Path, tmp_path: Path) -> None:
    pytest.importorskip("dagster", reason="the extra batch is not installed")
    code = "import tbg, tbg_dagster.definitions as found; print(found.__file__, found.defs)"
    done = run(commands / "python", "-c", code, cwd=tmp_path)
    assert done.stdout.startswith(str(commands.parent / "lib")), done.stderr
