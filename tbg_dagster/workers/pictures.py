"""Workers of a day: hashrates with their uncertainty."""

import dagster as dg
import pandas as pd

from tbg_dagster.picture import BLUE, INK, ORANGE, as_metadata, canvas, nothing, si


def hashrates(frame: pd.DataFrame, title: str) -> dg.MarkdownMetadataValue:
    """Every worker's hashrate, highest first, with its 95 % interval, on a logarithmic axis."""
    figure, axes = canvas(title)
    shown = frame[frame["hashrate"] > 0].sort_values("hashrate", ascending=False)
    if shown.empty:
        nothing(axes, "no accepted shares on this day")
        return as_metadata(figure, title)
    places = range(1, len(shown) + 1)
    axes.fill_between(
        places,
        shown["hashrate_low"].clip(lower=shown["hashrate"].min() / 10),
        shown["hashrate_high"],
        color=BLUE,
        alpha=0.18,
        linewidth=0,
        step="mid" if len(shown) < 100 else None,
        label="95 % confidence",
    )
    axes.plot(
        places,
        shown["hashrate"],
        color=ORANGE,
        marker="o",
        markersize=4 if len(shown) < 100 else 1.5,
        linewidth=1,
        label="hashrate",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: si(value, "H/s"))
    axes.set_xlabel("workers, fastest first", color=INK)
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    return as_metadata(figure, title)


def luckiest(frame: pd.DataFrame) -> dg.TableMetadataValue:
    """The ten luckiest workers of a day."""
    shown = frame.dropna(subset=["luck"]).sort_values("luck", ascending=False).head(10)
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "worker": int(row["worker_id"]),
                    "luck": f"{row['luck']:.3g} times the median",
                    "luckier than": f"{row['luck_percentile']:.1%} of days",
                    "best difficulty": si(row["best_share_diff"]),
                    "hashrate": si(row["hashrate"], "H/s"),
                    "uptime": f"{row['uptime_seconds'] / 3600:.1f} h",
                }
            )
            for row in shown.to_dict("records")
        ],
        schema=dg.TableSchema(
            [dg.TableColumn("worker", "int")]
            + [
                dg.TableColumn(name, "string")
                for name in ("luck", "luckier than", "best difficulty", "hashrate", "uptime")
            ]
        ),
    )
