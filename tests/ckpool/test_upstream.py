"""Whether the fork, as it is, was proved against upstream's own text: ckpool/PROOF.md."""

import re
import subprocess
import warnings

from tests.ckpool.test_papers import CKPOOL, DOCKERFILE
from tests.processes import LIMIT

PROOF = (CKPOOL / "PROOF.md").read_text()


def digest() -> str:
    command = [str(CKPOOL / "weave"), "--digest"]
    return subprocess.check_output(command, text=True, timeout=LIMIT).strip()


def verdict(page: str, now: str) -> str:
    """What the page's table says of the sources as they are."""
    rows = dict(re.findall(r"(?m)^\| ([a-z][^|]*?) \| *([^|]*?) *\|$", page))
    day = rows["proved on"]
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
        return "never proved"
    if rows["digest of our sources"].strip("`") != now:
        return f"changed since it was proved on {day}"
    return f"proved at {rows['upstream commit']} on {day}"


def test_the_page_says_whether_the_fork_was_proved() -> None:
    said = verdict(PROOF, digest())
    warnings.warn(f"the ckpool fork against upstream: {said}", stacklevel=1)
    # A page that claims nothing says so in words, too.
    assert ("**Nobody has run it yet.**" in PROOF) == (said == "never proved")


def test_a_proof_holds_for_the_sources_that_it_names_alone() -> None:
    now = digest()
    assert re.fullmatch(r"[0-9a-f]{16}", now)
    filled = (
        PROOF.replace("| proved on | never |", "| proved on | 2026-12-24 |")
        .replace("| upstream commit | |", "| upstream commit | b4283f22 |")
        .replace("| digest of our sources | |", f"| digest of our sources | {now} |")
    )
    assert verdict(filled, now) == "proved at b4283f22 on 2026-12-24"
    assert verdict(filled, "0" * 16) == "changed since it was proved on 2026-12-24"
    assert verdict(PROOF.replace("| 2026-12-24 |", "| never |"), now) == "never proved"


def test_the_page_names_the_pinned_commit_and_the_checks_that_there_are() -> None:
    pinned = re.findall(r"CKPOOL_COMMIT=([0-9a-f]{40})", DOCKERFILE)[0]
    assert f"checkout {pinned}" in PROOF
    checks = re.search(
        r'assertIn\("(\d+ checks passed)"', (CKPOOL / "tests/test_weave.py").read_text()
    )
    assert checks
    assert checks[1] in PROOF
