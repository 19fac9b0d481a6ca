"""The lists of CONTRIBUTING.md lead to where each kind of thing is."""

import json
import re
from pathlib import Path

import pytest
import yaml

from ingest.settings import ReceiverSettings, WriterSettings
from tbg_core.events import EVENTS
from tbg_dagster.definitions import defs
from tbg_dagster.resources import Thresholds
from tbg_dagster.resources.environment import variable_of

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
LISTS = dict(re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", TEXT, re.DOTALL | re.MULTILINE))
PATH = re.compile(r"`([\w.-]*(?:/[\w.-]+)*/?\.?\w+\.?\w*/?)`")


def paths(text: str) -> list[str]:
    """What stands in backquotes and looks like a file or folder."""
    return [name for name in PATH.findall(text) if "/" in name or "." in name[1:]]


def source(name: str) -> str:
    return (ROOT / name).read_text()


def test_there_is_a_list_for_each_kind_of_change() -> None:
    assert set(LISTS) == {
        "A new event field",
        "A new asset",
        "A new check",
        "A new setting",
        "A new alert",
    }
    assert all(len(paths(text)) >= 3 for text in LISTS.values())


@pytest.mark.parametrize("name", sorted(set(paths(TEXT)) - {"mining_events.payload", "Stage.stop"}))
def test_every_file_it_names_exists(name: str) -> None:
    found = ROOT / name
    assert found.is_dir() if name.endswith("/") else found.is_file()


def test_fields_of_events_are_in_every_place_of_their_list() -> None:
    listed = LISTS["A new event field"]
    for name, model in EVENTS.items():
        assert name in json.loads(source(f"tests/events/{name}.json"))["event"]
        always = [
            field
            for field, info in model.model_fields.items()
            if isinstance(info.json_schema_extra, dict)
        ]
        engines = ("devnet/pool/events.py", "devnet/emitter.py")
        for places in (("ckpool/src/tbg_write.c",), engines, ("docs/events.md",)):
            assert all(place in listed for place in places)
            text = "".join(source(place) for place in places)
            missing = [field for field in always if field not in text]
            assert not missing, (places, name, missing)


def test_every_asset_and_check_is_defined_in_its_domain_and_tested() -> None:
    code = "".join(path.read_text() for path in (ROOT / "tbg_dagster").rglob("assets.py"))
    graph = defs.resolve_asset_graph()
    for key in graph.executable_asset_keys - graph.observable_asset_keys:
        assert re.search(rf"\b{key.to_user_string()}\b", code)
        assert f'"{key.to_user_string()}"' in source("tbg_dagster/timetable.py")
    checks = "".join(path.read_text() for path in (ROOT / "tbg_dagster").rglob("*checks.py"))
    tests = "".join(path.read_text() for path in (ROOT / "tests/tbg_dagster").glob("test_*.py"))
    for check in graph.asset_check_keys:
        assert f"def {check.name}(" in checks
        assert check.name in tests


def test_every_setting_is_on_its_page_and_in_the_compose_file() -> None:
    compose = source("docker-compose.yml")
    page = source("docs/settings.md")
    names = [
        *(name.upper() for name in WriterSettings.model_fields),
        *(name.upper() for name in ReceiverSettings.model_fields),
        *(variable_of(Thresholds, name, "TBG_") for name in Thresholds.model_fields),
    ]
    assert not [name for name in names if f"`{name}`" not in page]
    taken = [name for name in names if re.search(rf"\b{name}\b", compose)]
    assert len(taken) > len(names) * 0.8  # a container keeps some of the image's own


def test_every_alert_on_a_metric_names_metrics_of_the_daemon() -> None:
    rules = yaml.safe_load(source("monitoring/alerts.yml"))
    used = set(re.findall(r"\btbg_[a-z_]+", json.dumps(rules)))
    exported = source("ingest/metrics.py")
    assert used
    for name in used:
        stem = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert stem in exported, name
        assert stem in source("docs/operations.md"), name
