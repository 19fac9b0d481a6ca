"""Makes docs/images: Dagster's pages, the ledger with a loss, a board, the mails of alerts.

    make pictures                                   # a stack of its own; takes some minutes
    make pictures ARGS="--state .tbg"               # of the stack that runs there, as it is
    make pictures ARGS="--grafana http://admin:PASSWORD@127.0.0.1:3001"

Pages are seen twice, by day and by night (-dark). Mails and plots are white everywhere. Without
--grafana there is no board: docker compose brings Grafana (docs/compose.md).
"""

import argparse
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, get_args

import requests
from browser import BrowserError, Page, Scheme, browser
from PIL import Image
from psycopg.rows import dict_row

from tbg_core.database import connect
from tbg_notify.digest import digest
from tbg_notify.routes import load
from tbg_notify.samples import sample
from tbg_notify.text import Text, render

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGES: Final = ROOT / "docs/images"
COLOURS: Final = 64  # of a picture: text and a few areas need no more, and files stay small
ZONE: Final = "Europe/Berlin"
KINDS: Final = ("block_found", "worker_offline", "weekly_result")
LOSSY_HOURS: Final = 24
LOST: Final = range(1000, 1040)  # lines of the simulated day that are never sent


def tbg(*words: str) -> list[str]:
    """The command line of a tbg command of this checkout."""
    return [sys.executable, "-m", "tbg.cli", *words]


@contextmanager
def stack(folder: Path) -> Iterator[None]:
    """A stack with two weeks of a simulated fleet, and a day on which forty events were lost."""
    log = (folder / "up.log").open("w+")
    words = tbg("up", "--state", str(folder), "--free-ports", "--no-miner")
    with subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log) as up:
        try:
            while "Ctrl-C stops everything" not in (folder / "up.log").read_text():
                try:
                    up.wait(1)
                except subprocess.TimeoutExpired:
                    continue
                raise SystemExit((folder / "up.log").read_text())
            lose(folder)
            subprocess.run(tbg("demo", "--state", str(folder)), cwd=ROOT, check=True)
            yield
        finally:
            up.terminate()


def environment(folder: Path) -> dict[str, str]:
    """How the stack of a state folder is reached."""
    words = tbg("env", "--json", "--state", str(folder))
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def lose(folder: Path) -> None:
    """Sends the day before the running hour, without some of its events."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = f"{now - timedelta(hours=LOSSY_HOURS):%Y-%m-%d %H:%M:%S}"
    words = tbg("devnet", "simulate", "--output", "-", "--hours", str(LOSSY_HOURS), "--tidy")
    words += ["--miners", "20", "--seed", "7", "--shares", "8000", "--start", start]
    words += ["--block-every", "1e12"]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(environment(folder)["SOCKET_PATH"])
        for number, line in enumerate(done.stdout.splitlines()):
            if number not in LOST:
                sender.send(line)  # waits while the receiver's queue is full


def save(name: str, scheme: Scheme, picture: bytes) -> None:
    """Writes a picture with few colours."""
    path = IMAGES / f"{name}{'' if scheme == 'light' else '-dark'}.png"
    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    # Of few colours, those of small areas too: the green of a dot.
    whole.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def dagster(page: Page, url: str, path: str, scheme: Scheme, size: tuple[int, int]) -> None:
    """Opens a page of Dagster in its light or dark colours."""
    page.open(url, scheme, *size)
    page.wait("document.readyState === 'complete'")
    page.run(f"localStorage.setItem('dagster-theme', '\"{scheme.capitalize()}\"')")
    page.open(f"{url}{path}", scheme, *size)


def wait_for_a_look(url: str) -> None:
    """Returns once Dagster has looked at the realtime side, as it does every five minutes."""
    query = '{assetNodeOrError(assetKey: {path: ["miners"]}) {... on AssetNode {assetObservations(limit: 1) {runId}}}}'
    while True:
        answer = requests.post(f"{url}/graphql", json={"query": query}, timeout=60).json()
        if answer["data"]["assetNodeOrError"]["assetObservations"]:
            return
        time.sleep(2)


def lineage(page: Page, url: str, scheme: Scheme) -> None:
    """The groups of assets, and how they depend on each other."""
    dagster(page, url, "/asset-groups/", scheme, (1700, 900))
    text = "(document.body?.innerText ?? '')"
    page.wait(f"{text}.includes('receipts') && /realtime\\n+\\d/.test({text})")
    page.wait(f"!{text}.includes('fetching') && !{text}.includes('Loading')")
    save("assets", scheme, page.picture())


def shown(
    page: Page, url: str, asset: str, partition: str, key: str, name: str, scheme: Scheme
) -> None:
    """A picture in the metadata of a partition, in the dialog that shows it."""
    query = urllib.parse.urlencode({"view": "partitions", "partition": partition})
    dagster(page, url, f"/assets/{asset}?{query}", scheme, (1500, 1200))
    row = f"[...document.querySelectorAll('tr')].find(r => r.innerText.startsWith('{key}'))"
    link = f"[...({row})?.querySelectorAll('*') ?? []].findLast(e => e.innerText?.includes('Show'))"
    page.wait(link)
    page.run(f"{link}.click()")
    picture = "document.querySelector('[role=dialog] img, .bp5-dialog img, .bp4-dialog img')"
    page.wait(f"{picture}?.complete && {picture}.naturalWidth")
    save(name, scheme, page.picture(f"{picture}.parentElement.parentElement"))


def last_digest(database: str, folder: Path) -> Text:
    """The digest of last week's Sunday, of the miner who won that week."""
    today = datetime.now(UTC).date()
    with connect(database, row_factory=dict_row) as connection:
        winner = connection.execute(
            "select u.btc_address from weekly_best_diff b join users u on u.id = b.user_id "
            "where b.rank = 1 order by b.week_start desc limit 1"
        ).fetchone()
        if winner is None:
            raise SystemExit("no week has a winner: run make demo first, and wait for its end")
        routes = folder / "alerts.yml"
        mine = {"to": "ntfy://127.0.0.1/mine", "zone": ZONE, "users": [winner["btc_address"]]}
        routes.write_text(json.dumps({"routes": {"mine": mine}}))
        found = digest(connection, load(routes)["mine"], today - timedelta(today.isoweekday()))
    assert found is not None
    return found


def mails(page: Page, name: str, texts: list[Text]) -> None:
    """What mails look like."""
    parts = []
    for text in texts:
        title, body = render(text, "html")
        parts.append(f"<p style='font:12px monospace;color:#777'>Subject: {title}</p>{body}")
    html = f"<!doctype html><meta charset=utf-8><body style='margin:8px 16px'>{''.join(parts)}"
    page.open(f"data:text/html,{urllib.parse.quote(html)}", "light", 700, 600)
    page.wait("document.body?.innerText.includes('Subject')")
    save(name, "light", page.picture("document.body"))


def board(page: Page, url: str, scheme: Scheme) -> None:
    """The hall of fame in Grafana."""
    page.open(f"{url}/d/tbg-hall?kiosk&theme={scheme}", scheme, 1500, 1100)
    page.wait("document.querySelectorAll('table, canvas, [role=table]').length > 4")
    save("hall", scheme, page.picture())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, help="of a stack that runs")
    parser.add_argument("--grafana", metavar="URL", help="with user and password")
    parser.add_argument("--browser", metavar="PROGRAM", help="Chromium or Chrome")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tbg-pictures-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)  # PostgreSQL may run as another user
        if options.state:
            take(options, environment(options.state), Path(made))
        else:
            with stack(Path(made)):
                take(options, environment(Path(made)), Path(made))


def take(options: argparse.Namespace, reached: dict[str, str], folder: Path) -> None:
    """Takes every picture."""
    url = reached["DAGSTER_URL"]
    now = datetime.now(UTC)
    hour = f"{now - timedelta(hours=1):%Y-%m-%d-%H:00}"  # the newest has the picture
    week = f"{now - timedelta(days=now.weekday() + 7):%Y-%m-%d}"
    try:
        with browser(options.browser) as page:
            mails(page, "alerts", [sample(kind, zoneinfo.ZoneInfo(ZONE)) for kind in KINDS])
            mails(page, "digest", [last_digest(reached["DATABASE_URL"], folder)])
            shown(page, url, "weekly_leaderboard", week, "picture", "leaderboard", "light")
            wait_for_a_look(url)
            for scheme in get_args(Scheme):
                lineage(page, url, scheme)
                shown(page, url, "share_ledger", hour, "ledger", "ledger", scheme)
                if options.grafana:
                    board(page, options.grafana, scheme)
    except BrowserError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
