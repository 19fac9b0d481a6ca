"""The operations page lists every metric, and no other."""

import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from ingest import metrics


def test_the_operations_page_lists_every_metric_of_the_daemon() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text()
    section = page.split("## Metrics")[1].split("\n## ")[0]
    listed = {re.sub(r"\{.*", "", name) for name in re.findall(r"`(tbg_[a-z_{},]+)`", section)}
    served = set()
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            family = next(iter(metric.collect()))
            served.add(family.name + ("_total" if isinstance(metric, Counter) else ""))
    assert listed == served
