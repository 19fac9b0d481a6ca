"""Alerts and dashboards are about metrics that exist."""

import json
import re

import yaml
from prometheus_client import REGISTRY

import ingest.metrics  # noqa: F401  registers the metrics
from tests.processes import ROOT

ALERTS = yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text("utf-8"))
DASHBOARD = json.loads((ROOT / "monitoring/grafana/dashboards/events.json").read_text("utf-8"))


def exported() -> set[str]:
    """Names of samples as Prometheus stores them."""
    found = set()
    for metric in REGISTRY.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        found |= {metric.name + suffix for suffix in suffixes.get(metric.type, [""])}
    return found


def alert_expressions() -> list[str]:
    return [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_metric_in_a_rule_or_a_panel_is_exported() -> None:
    used = {
        name
        for text in alert_expressions() + panel_expressions()
        for name in re.findall(r"\btbg_\w+", text)
    }
    assert len(used) >= 12
    assert used <= exported()


def test_every_loss_has_an_alert() -> None:
    text = " ".join(alert_expressions())
    for metric in (
        "tbg_dropped_total",
        "tbg_sequence_gap_events_total",
        "tbg_spool_bytes",
        "tbg_stream_lag_seconds",
        "tbg_dead_lettered_total",
        "up == 0",
    ):
        assert metric in text


def test_every_alert_says_what_happened() -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"], rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_panels_read_the_provisioned_source_and_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "prometheus"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        here = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not here & cells, panel["title"]
        cells |= here
