"""The pages about events say what the daemon accepts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tbg.cli import main
from tbg.docs import render_markdown, render_schema
from tbg_core.events import EVENTS
from tests.processes import LIMIT, ROOT

# Prints the variables that the resources of the code location come from.
TAKEN = """
import dagster as dg
from tbg_dagster.definitions import defs
for resource in defs.resources.values():
    for name in type(resource).model_fields:
        value = getattr(resource, name)
        print(getattr(value, "env_var_name", f"{name} is not taken from the environment"))
"""


def test_the_pages_in_the_repository_say_what_the_models_say() -> None:
    result = CliRunner().invoke(main, ["docs", "--check"])
    assert result.exit_code == 0, result.output


def test_a_page_that_differs_is_named_and_then_written(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests").mkdir()
    for folder in ("events", "messages", "outputs"):
        (tmp_path / "tests" / folder).symlink_to(ROOT / "tests" / folder)
    (tmp_path / "docs" / "events.md").write_text("something else")
    arguments = ["docs", "--root", str(tmp_path)]

    refused = CliRunner().invoke(main, [*arguments, "--check"])
    assert refused.exit_code == 1
    assert (
        "docs/events.md, docs/events.schema.json, docs/json.md, docs/messages.md, docs/schema.md, docs/settings.md differ"
        in refused.output
    )
    assert (tmp_path / "docs" / "events.md").read_text() == "something else"

    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert CliRunner().invoke(main, [*arguments, "--check"]).exit_code == 0


@pytest.mark.parametrize("name", EVENTS)
def test_every_field_of_an_event_stands_in_its_table(name: str) -> None:
    page = render_markdown(ROOT / "tests" / "events")
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    golden = json.loads((ROOT / "tests" / "events" / f"{name}.json").read_text())
    for field in golden["data"]:
        assert f"| `{field}`" in section


def test_required_optional_and_always_sent_fields_are_told_apart() -> None:
    section = render_markdown(ROOT / "tests" / "events").split("\n## share_submitted\n")[1]
    assert "| `difficulty` | number | ≥ 1e-12; ≤ 2^224 |" in section
    assert "| `share_diff` | number or null | ≥ 1e-12; ≤ 2^224 |" in section
    assert "| `client_id`* | integer |" in section
    assert "| `version_bits`? | string | 2 to 64 characters; hex, whole bytes |" in section


def test_every_setting_of_the_batch_side_is_on_the_page() -> None:
    """Each variable on the page is one that the code location takes, and the other way round."""
    page = (ROOT / "docs" / "settings.md").read_text().split("\n## Batch side: ", 1)[1]
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    done = subprocess.run(
        [sys.executable, "-c", TAKEN],
        # Set, so that each is taken from the environment.
        env={**os.environ, **dict.fromkeys(named, "1")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    taken = set(done.stdout.split())
    assert taken == named


def test_the_schema_tells_events_apart_by_their_name() -> None:
    schema = json.loads(render_schema())
    assert set(schema["discriminator"]["mapping"]) == set(EVENTS)
