"""Where the documentation of an asset stands: a page of this repository, in its metadata."""

from collections.abc import Iterable
from typing import Any, Final

import dagster as dg

# By group.
PAGES: Final = {
    "alerts": "docs/alerts.md",
    "archive": "docs/archive.md",
    "blocks": "docs/operations.md",
    "housekeeping": "docs/operations.md",
    "quality": "docs/guarantees.md",
    "receipts": "docs/check-your-receipt.md",
    "realtime": "docs/events.md",
    "shares": "docs/guarantees.md",
    "weekly": "docs/check-your-best.md",
    "workers": "docs/operations.md",
}


def with_pages(assets: Iterable[Any]) -> list[dg.AssetsDefinition]:
    """The assets, each with the page of its group."""
    return [
        definition
        for definition in dg.map_asset_specs(_with_page, assets)
        if isinstance(definition, dg.AssetsDefinition)
    ]


def _with_page(spec: dg.AssetSpec) -> dg.AssetSpec:
    page = PAGES.get(str(spec.group_name), "README.md")
    return spec.merge_attributes(metadata={"documentation": dg.MetadataValue.path(page)})
