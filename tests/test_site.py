"""The pages: each is in the site, and every link of theirs leads somewhere."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.processes import LIMIT, ROOT

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
TRACKED = subprocess.run(
    ["git", "ls-files", "*.md"],
    cwd=ROOT, capture_output=True, text=True, check=True, timeout=LIMIT,
).stdout.split()  # fmt: skip
OUTSIDE = [name for name in TRACKED if not name.startswith("docs/")]


def test_the_site_is_built_without_a_broken_link_or_anchor() -> None:
    zensical = shutil.which("zensical", path=str(Path(sys.executable).parent))
    assert zensical, "zensical is among the packages for developers: make install"
    done = subprocess.run(
        [zensical, "build", "--strict", "--clean"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    built = ROOT / "build/site"
    assert all((built / page).with_suffix(".html").is_file() for page in PAGES)
    assert (built / "search.json").is_file()


def test_every_page_is_in_the_navigation_once() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    named = re.findall(r"[\w-]+\.md", str(nav))
    assert sorted(named) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_of_a_page_is_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    for picture in re.findall(r'(?:src|srcset)="([^"]+)"|!\[[^]]*\]\(([^)]+)\)', text):
        assert (ROOT / "docs" / "".join(picture)).is_file()


@pytest.mark.parametrize("page", OUTSIDE)
def test_links_between_files_outside_the_site_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text("utf-8")):
        if not re.match(r"[a-z]+:|#", link):
            assert (file.parent / link.partition("#")[0]).exists(), link
