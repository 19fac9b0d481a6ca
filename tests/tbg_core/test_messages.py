"""What the game's backend reads keeps its shape: models, golden files and page agree."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tbg.docs import render_messages, snake_case
from tbg_core.messages import MESSAGES, Payload, WeeklyReset
from tests.processes import ROOT

GOLDEN = ROOT / "tests" / "messages"
MODELS = sorted({model for models in MESSAGES.values() for model in models}, key=str)


def golden(model: type[Payload]) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        Path(GOLDEN / f"{snake_case(model.__name__)}.json").read_text()
    )
    return found


@pytest.mark.parametrize("model", MODELS)
def test_a_golden_message_is_sent_as_it_stands(model: type[Payload]) -> None:
    """No field is added, renamed or dropped, whatever a reader may be used to."""
    message = golden(model)
    assert model.model_validate(message).payload() == message


@pytest.mark.parametrize("model", MODELS)
def test_every_field_of_a_golden_message_is_one_that_the_model_names(
    model: type[Payload],
) -> None:
    assert not model.model_validate(golden(model)).model_extra


@pytest.mark.parametrize("model", MODELS)
def test_every_field_of_a_message_stands_in_its_table_with_its_meaning(
    model: type[Payload],
) -> None:
    section = render_messages(GOLDEN).split(f"\n## {model.__name__}\n")[1].split("\n## ")[0]
    for name in model.model_fields:
        assert f"\n| `{name}`" in section


def test_a_message_of_another_shape_is_refused() -> None:
    message = golden(WeeklyReset)
    with pytest.raises(ValidationError):
        WeeklyReset.model_validate(message | {"entrants": "many"})
    del message["week"]
    with pytest.raises(ValidationError):
        WeeklyReset.model_validate(message)


def test_fields_of_a_later_version_are_passed_on() -> None:
    message = golden(WeeklyReset) | {"prize": "a pizza"}
    assert WeeklyReset.model_validate(message).payload() == message
