"""The operations page lists every metric, and no other."""

import re
from pathlib import Path

from ingest import metrics


def test_the_operations_page_lists_every_metric_of_the_daemon() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text()
    section = page.split("## Metrics")[1].split("\n## ")[0]
    listed = {re.sub(r"\{.*", "", name) for name in re.findall(r"`(tbg_[a-z_{},]+)`", section)}
    served = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.REGISTRY.collect()
        if family.name.startswith("tbg_")
    }
    assert listed == served
