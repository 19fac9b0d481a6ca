"""What scripts read keeps its shape: models, golden files, page and commands agree."""

import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
from pydantic import BaseModel, RootModel

from tbg.cli import main
from tbg.docs import render_outputs, snake_case
from tbg.outputs import OUTPUTS, PARTS, Diagnosis, show
from tests.processes import ROOT

GOLDEN = ROOT / "tests" / "outputs"
MODELS = [model for model, _ in OUTPUTS.values()]
# The simulator is a test tool of the devnet: its summary is for the person who runs it.
NO_CONTRACT = {"devnet simulate"}


def with_json(command: click.Command, name: str = "") -> Iterator[str]:
    """The commands below one that have the option --json."""
    if isinstance(command, click.Group):
        for part in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), part)
            assert found is not None
            yield from with_json(found, f"{name} {part}".strip())
    elif any("--json" in one.opts for one in command.params):
        yield name


@pytest.mark.parametrize("model", MODELS)
def test_a_golden_output_is_printed_as_it_stands(
    model: type[BaseModel], capsys: pytest.CaptureFixture[str]
) -> None:
    """No field is added, renamed or dropped, whatever a script may be used to."""
    golden = json.loads((GOLDEN / f"{snake_case(model.__name__)}.json").read_text())
    show(model, golden)
    assert json.loads(capsys.readouterr().out) == golden


def test_every_command_with_json_has_a_model_and_the_other_way_round() -> None:
    found = set(with_json(main)) - NO_CONTRACT
    assert found == {name.partition(" --")[0] for name in OUTPUTS}


@pytest.mark.parametrize("model", [*MODELS, *PARTS])
def test_every_field_stands_in_its_table(model: type[BaseModel]) -> None:
    section = render_outputs(GOLDEN).split(f"\n## {model.__name__}\n")[1].split("\n## ")[0]
    if issubclass(model, RootModel):
        return
    names: dict[str, Any] = model.model_json_schema()["properties"]
    for name in names:
        assert f"\n| `{name}`" in section


def test_what_no_model_names_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    golden = json.loads((GOLDEN / "diagnosis.json").read_text())
    show(Diagnosis, golden | {"secret": "hunter2"})
    assert "hunter2" not in capsys.readouterr().out
