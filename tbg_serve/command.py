"""``tbg serve``."""

import signal
from pathlib import Path
from typing import Final

import click
import structlog
import uvicorn

from tbg_core import log as logging
from tbg_core import signals
from tbg_core.settings import SettingsError
from tbg_serve.app import Serving
from tbg_serve.connection import Connection, let_go_of_the_stalled
from tbg_serve.settings import ServeSettings

GRACE_SECONDS: Final = 10  # for requests that are being answered
BACKLOG: Final = 2048

log: structlog.stdlib.BoundLogger = structlog.get_logger("tbg_serve")


class _Server(uvicorn.Server):
    """Lets the listeners go at the end: they would hold it up for as long as they listen."""

    def __init__(self, config: uvicorn.Config, serving: Serving) -> None:
        super().__init__(config)
        self._serving = serving

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._serving.events.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]  # sockets, passed on


@click.command("serve")
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write ckpool's files below this folder every minute, too (SERVE_FILES).",
)
def serve(files: Path | None) -> None:
    """Answer the miners' tools over HTTP, read-only, until SIGTERM.

    Our own interface is /v1, with its documentation at /docs; public-pool's dialect is /api,
    ckpool's /pool/pool.status and /users/ADDRESS (docs/api.md). Settings come from the
    environment.

    \b
    Examples:
      DATABASE_URL=postgresql://tbg@localhost/tbg REDIS_URL=redis://localhost tbg serve
      SERVE_HOST=0.0.0.0 SERVE_PORT=8100 tbg serve --files /srv/ckpool
    """
    signals.hold()
    try:
        overrides = {} if files is None else {"serve_files": files}
        settings = ServeSettings.load(**overrides)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    logging.configure(settings.log_level, settings.log_format)
    serving = Serving(settings)
    config = uvicorn.Config(
        serving.app,
        host=settings.serve_host,
        port=settings.serve_port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        http=Connection,
        ws="none",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, serving)
    # uvicorn takes the signals over, and raises them again when it has ended.
    for number in signals.STOP:
        signal.signal(number, server.handle_exit)
    signals.release()
    try:
        sockets = [config.bind_socket()]
    except SystemExit:
        raise click.ClickException(
            f"{settings.serve_host}:{settings.serve_port} (SERVE_HOST, SERVE_PORT) cannot be had: "
            "another program listens there, or it is no address of this machine"
        ) from None
    let_go_of_the_stalled(sockets[0])
    log.info("serving", host=settings.serve_host, port=settings.serve_port)
    server.run(sockets)
