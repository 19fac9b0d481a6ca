"""The golden datagrams of tests/events/, as the C module says them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tbg_core.decode import decode
from tbg_core.events import EVENTS, MAX_DATAGRAM

GOLDEN = Path(__file__).parent.parent / "events"

Program = Callable[[str], Path]


def said_by_c(program: Program) -> dict[str, bytes]:
    lines = subprocess.run(
        [program("golden")], check=True, capture_output=True, timeout=60
    ).stdout.splitlines()
    return {json.loads(line)["event"]: line for line in lines}


def differing(said: dict[str, Any], golden: Path) -> dict[str, tuple[object, object]]:
    """The fields that differ, by name: what is said, and what the golden datagram has."""
    wanted = json.loads(golden.read_bytes())
    found = {
        name: (said.get(name), wanted.get(name))
        for name in sorted(said.keys() | wanted.keys())
        if name != "data" and said.get(name, ...) != wanted.get(name, ...)
    }
    data, other = said.get("data", {}), wanted.get("data", {})
    return found | {
        f"data.{name}": (data.get(name), other.get(name))
        for name in sorted(data.keys() | other.keys())
        if data.get(name, ...) != other.get(name, ...)
    }


def test_a_field_that_differs_from_its_golden_datagram_is_named() -> None:
    golden = json.loads((GOLDEN / "share_submitted.json").read_bytes())
    data = {name: value for name, value in golden["data"].items() if name != "ntime"}
    said = {**golden, "seq": 5, "data": {**data, "valid": False, "more": 1}}
    found = differing(said, GOLDEN / "share_submitted.json")
    assert found == {
        "seq": (5, 4),
        "data.more": (1, None),
        "data.ntime": (None, "6920fd41"),
        "data.valid": (False, True),
    }


def test_every_golden_datagram_is_said_with_the_same_meaning(program: Program) -> None:
    said = said_by_c(program)
    assert set(said) == set(EVENTS)
    for event, line in said.items():
        assert differing(json.loads(line), GOLDEN / f"{event}.json") == {}


def test_the_status_of_an_engine_is_said_with_the_same_meaning(program: Program) -> None:
    said = subprocess.run(
        [program("golden"), "status"], check=True, capture_output=True, timeout=60
    ).stdout
    golden = (GOLDEN.parent / "messages" / "engine_status.json").read_bytes()
    assert json.loads(said) == json.loads(golden)
    assert "seq" not in json.loads(said)


def test_numbers_keep_their_kind(program: Program) -> None:
    """An integer stays one, a float is never written as one."""

    def kinds(value: object) -> object:
        if isinstance(value, dict):
            return {key: kinds(item) for key, item in value.items()}
        return type(value)

    for event, line in said_by_c(program).items():
        golden = json.loads((GOLDEN / f"{event}.json").read_bytes())
        assert kinds(json.loads(line)) == kinds(golden)


def test_the_decoder_and_the_models_accept_them(program: Program) -> None:
    for event, line in said_by_c(program).items():
        assert len(line) < MAX_DATAGRAM
        decoded = decode(line)
        assert decoded.event == event
        assert (decoded.source, decoded.instance) == ("hosted", "ckpool-eu1/1763769600123456")
        EVENTS[event].model_validate_json(line)


def test_every_field_that_our_engines_always_send_is_there(program: Program) -> None:
    for event, line in said_by_c(program).items():
        fields = EVENTS[event].model_fields["data"].annotation.model_fields  # type: ignore[union-attr]  # a model, never None
        always = {
            name
            for name, field in fields.items()
            if field.is_required() or field.json_schema_extra == {"always_sent": True}
        }
        assert always <= set(json.loads(line)["data"])
