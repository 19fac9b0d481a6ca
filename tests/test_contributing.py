"""The lists of CONTRIBUTING.md lead to where each kind of thing is."""

import json
import re
from pathlib import Path

import pytest
import yaml

from ingest.settings import ReceiverSettings, WriterSettings
from ingest.writer.tables import SHARE_COLUMNS
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


@pytest.mark.parametrize("name", sorted(LISTS))
def test_each_list_ends_with_the_tests_to_run(name: str) -> None:
    last = LISTS[name].strip().splitlines()[-1]
    assert last.startswith("Run `.venv/bin/pytest "), last
    for path in re.findall(r"tests/[\w/.]+", last):
        assert (ROOT / path).exists(), path


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
            for part in (model, model.model_fields["data"].annotation)
            for field, info in part.model_fields.items()  # type: ignore[union-attr]  # a model, never None
            if isinstance(info.json_schema_extra, dict)
        ]
        engines = ("devnet/pool/events.py", "devnet/pool/share.py", "devnet/emitter.py")
        golden = f"tests/events/{name}.json"
        for places in (("ckpool/src/tbg_write.c",), engines, ("docs/events.md",), (golden,)):
            assert all(place in listed for place in places if place != golden)
            text = "".join(source(place) for place in places).replace('\\"', '"')
            # A key as JSON, C and Python have it, or a name as Markdown has it.
            missing = [field for field in always if not re.search(rf'["`]{field}["`]', text)]
            assert not missing, (places, name, missing)


# Fields of a share that have no column: they are for who reads the streams.
NOT_STORED = {"client_id", "ntime", "user_agent", "version_bits", "network_difficulty"}
STORED_AS = {
    "hash": "share_hash",
    "ip": "ip_address",
    "user": "user_id",
    "valid": "is_valid",
    "worker": "worker_id",
}


def test_a_field_of_a_share_without_a_column_is_named_here() -> None:
    model = EVENTS["share_submitted"].model_fields["data"].annotation
    fields = set(model.model_fields)  # type: ignore[union-attr]  # a model, never None
    without = {name for name in fields if STORED_AS.get(name, name) not in SHARE_COLUMNS}
    assert without == NOT_STORED


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
