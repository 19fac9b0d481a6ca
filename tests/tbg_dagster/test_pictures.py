"""Pictures are drawn of every number that a table may hold, without a word of complaint."""

import math
import warnings
from datetime import date

import pytest

from tbg_dagster.weekly.pictures import leaderboard


@pytest.mark.parametrize(
    "bests",
    [[4.2e9, 17.0], [0.0, 5.0], [0.0], [5e-324], [1e-310, 1e-12], [1e308, 2.0], [math.inf, 1.0]],
)
def test_a_board_is_drawn_of_any_difficulty(bests: list[float]) -> None:
    rows = [
        {"rank": place, "user": "$\\q$", "best_difficulty": best}
        for place, best in enumerate(bests, 1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = leaderboard(rows, date(2026, 11, 23)).value
    assert drawn.startswith("![Best shares of the week of 23 November 2026](data:image/png")
