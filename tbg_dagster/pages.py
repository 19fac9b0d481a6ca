"""Where an asset's documentation and code stand in this repository, in its metadata."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import dagster as dg

REPOSITORY: Final = "https://github.com/thebitcoingame/mining-data"
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
    """The assets, each with the page of its group and a link to its code."""
    with_page = dg.map_asset_specs(_with_page, assets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # what its page shows, and nothing else
        root = dg.AnchorBasedFilePathMapping(
            local_file_anchor=Path(__file__).resolve().parent.parent,
            file_anchor_path_in_repository="",
        )
        linked = dg.link_code_references_to_git(
            dg.with_source_code_references(with_page),
            git_url=REPOSITORY,
            git_branch="main",
            file_path_mapping=root,
        )
    return [definition for definition in linked if isinstance(definition, dg.AssetsDefinition)]


def _with_page(spec: dg.AssetSpec) -> dg.AssetSpec:
    page = PAGES.get(str(spec.group_name), "README.md")
    return spec.merge_attributes(metadata={"documentation": dg.MetadataValue.path(page)})
