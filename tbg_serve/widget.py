"""Umbrel's widget: four numbers on the home screen, type ``four-stats``.

The shape is that of getumbrel/umbrel, packages/umbreld/source/modules/widgets.
"""

from typing import Any, Final

from fastapi import APIRouter, Response

from tbg_serve.answer import as_json
from tbg_serve.ckpool import suffixed
from tbg_serve.pool import Pool

REFRESH: Final = "10s"


def router(pool: Pool) -> APIRouter:
    """The route of the widget."""
    routes = APIRouter(tags=["umbrel"])

    @routes.get("/widgets/pool")
    async def widget() -> Response:
        """Hash rate, workers, the week's best share, blocks."""
        counts = await pool.counts.get()
        row = await pool.found()
        rate, unit = parted(counts.rates["hashrate_5m"])
        best, suffix = parted(row["best"] or 0.0)
        items: list[dict[str, str]] = [
            {"title": "Hash rate", "text": rate, "subtext": f"{unit}H/s"},
            {"title": "Workers", "text": str(counts.workers), "subtext": "online"},
            {"title": "Best of the week", "text": f"{best}{suffix}", "subtext": "difficulty"},
            {"title": "Blocks", "text": str(row["blocks"]), "subtext": "found"},
        ]
        answer: dict[str, Any] = {
            "type": "four-stats",
            "refresh": REFRESH,
            "link": "",
            "items": items,
        }
        return as_json(answer)

    return routes


def parted(number: float) -> tuple[str, str]:
    """A number and its suffix."""
    text = suffixed(number)
    return (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
