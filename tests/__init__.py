"""The tests."""

import os
from datetime import UTC, datetime, timedelta

# Before any test imports tbg_dagster. Twelve weeks: Dagster lists every partition often.
_TODAY = datetime.now(UTC).date()
os.environ["TBG_FIRST_WEEK"] = str(_TODAY - timedelta(days=_TODAY.weekday(), weeks=12))
