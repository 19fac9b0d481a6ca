"""The pages are read in a terminal, and a shell completes what one types."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tbg.cli import COMMANDS, DEVNET_COMMANDS, main
from tbg.help import PAGES, rendered
from tests.processes import LIMIT, ROOT


def test_every_page_but_the_first_of_the_site_is_a_topic_with_its_title() -> None:
    listed = CliRunner().invoke(main, ["help"]).output
    assert PAGES.keys() == {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    for topic, page in PAGES.items():
        heading = page.read_text("utf-8").splitlines()[0].removeprefix("# ").replace("`", "")
        assert re.search(rf"^  {topic} +{re.escape(heading)}$", listed, re.MULTILINE)


@pytest.mark.parametrize("topic", PAGES)
def test_a_topic_shows_its_page_as_text(topic: str) -> None:
    result = CliRunner().invoke(main, ["help", topic])
    assert result.exit_code == 0, result.output
    assert not re.search(r"\x1b|^#|\]\(", result.output, re.MULTILINE)
    assert max(map(len, result.output.splitlines())) <= 100


def test_a_link_to_another_page_is_the_command_that_shows_it() -> None:
    shown = " ".join(rendered(PAGES["without-docker"]).split())
    assert "or elsewhere (tbg help servers)" in shown
    assert "is enough; below." in shown  # a place on this page


def test_a_command_without_a_page_shows_its_own_help() -> None:
    shown = CliRunner().invoke(main, ["help", "backup"])
    asked = CliRunner().invoke(main, ["backup", "--help"])
    assert shown.exit_code == 0
    assert "Usage: main backup [OPTIONS] FILE" in shown.output
    assert shown.output == asked.output


@pytest.mark.parametrize(
    ("typed", "said"), [("guarantee", "near it: guarantees"), ("xyzzy", "all: tbg help")]
)
def test_an_unknown_topic_names_near_ones(typed: str, said: str) -> None:
    result = CliRunner().invoke(main, ["help", typed])
    assert result.exit_code == 2
    assert f"there is no topic '{typed}'; {said}" in result.output


def completed(line: str, absent: str = "") -> list[str]:
    """What bash is offered at the end of a line, where a package is absent."""
    code = (
        "import os, sys\n"
        f"sys.modules.update(dict.fromkeys({absent.split()}))\n"
        "from tbg.cli import main\n"
        "try: main(prog_name='tbg')\n"
        "finally: print('IMPORTED', *{'dagster', 'psycopg', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT,
        env={"_TBG_COMPLETE": "bash_complete", "COMP_WORDS": line,
             "COMP_CWORD": str(line.count(" "))},
    )  # fmt: skip
    assert not done.stderr
    return [word.removeprefix("plain,") for word in done.stdout.splitlines()]


def test_a_shell_completes_commands_without_importing_any() -> None:
    assert completed("tbg ") == [*COMMANDS, "devnet", "IMPORTED"]
    assert completed("tbg le") == ["ledger", "IMPORTED"]
    assert completed("tbg --v") == ["--version", "IMPORTED"]
    assert completed("tbg devnet ") == [*DEVNET_COMMANDS, "IMPORTED"]


def test_a_shell_completes_options_and_topics() -> None:
    assert "--audit" in completed("tbg ledger --")
    assert completed("tbg help g")[:-1] == ["guarantees"]
    assert {"archive", "check-your-best", "up"} <= set(completed("tbg help "))


def test_a_shell_sees_no_error_of_a_command_whose_extra_is_not_installed() -> None:
    assert completed("tbg devnet pool --", absent="aiohttp")[:-1] == ["--help"]
