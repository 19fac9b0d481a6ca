"""Where days of raw shares and events are archived."""

import dagster as dg
from pydantic import Field


class Archive(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """A folder or an S3 bucket. Without a URL, nothing is archived."""

    url: str = Field(
        default="",
        description="an absolute path, or s3://bucket/path; empty: no archive. With one, a day is "
        "dropped only once it is archived (docs/archive.md)",
    )
