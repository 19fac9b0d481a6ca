"""Tests of the batch side."""

import os
from datetime import UTC, datetime, timedelta

# Before tbg_dagster is imported. Twelve weeks: Dagster lists every partition often.
_TODAY = datetime.now(UTC).date()
os.environ["TBG_FIRST_WEEK"] = str(_TODAY - timedelta(days=_TODAY.weekday(), weeks=12))
