"""What assets say about their tables."""

import dagster as dg


def columns(**described: tuple[str, str]) -> dict[str, dg.TableSchema]:
    """Asset metadata that shows columns: ``columns(bucket=("timestamptz", "start, UTC"))``."""
    return {
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(name, kind, description=text)
                for name, (kind, text) in described.items()
            ]
        )
    }
