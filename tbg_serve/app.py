"""The application: all routes, behind the cache, the limit and CORS."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tbg_core.tasks import end
from tbg_serve import ckpool, exposition, publicpool, widget
from tbg_serve.cache import Cache
from tbg_serve.database import Database
from tbg_serve.files import Files
from tbg_serve.limit import Limit
from tbg_serve.models import Problem
from tbg_serve.pool import Pool
from tbg_serve.primary import Primary
from tbg_serve.settings import ServeSettings
from tbg_serve.unavailable import Unavailable
from tbg_serve.v1 import events, game, miners, receipts, weeks

RETRY_AFTER: Final = "5"  # seconds
POOL_SECONDS: Final = 5.0  # that a count of the whole pool is kept at least
# What the cache does not keep: listeners, health, pages for a browser.
NEVER: Final = (events.PATH, "/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/static")
ABOUT: Final = """\
Read-only: the game, its miners, blocks, odds, hours and the ledger. Every number has its unit in
the schema (`unit`). What is away or slow is answered by 503 and a reason. `/api` speaks
public-pool's dialect, `/pool` and `/users` ckpool's.
"""

log: structlog.stdlib.BoundLogger = structlog.get_logger("tbg_serve")


class Serving:
    """The application of some settings.

    Attributes:
        app: what uvicorn runs.
        events: the listeners, to be let go before the end.
    """

    def __init__(self, settings: ServeSettings) -> None:
        seconds = settings.serve_query_seconds
        self._settings = settings
        self._database = Database(settings.database_url, settings.serve_connections, seconds)
        self._primary = Primary(settings.redis_url)
        self._pool = Pool(self._database, POOL_SECONDS, seconds)
        self.events = events.Events(
            self._primary, settings.serve_events, settings.serve_events_each, settings.cells
        )
        self.routes = self._routes()
        app: ASGIApp = Cache(
            self.routes,
            seconds=settings.serve_cache_seconds,
            most_bytes=settings.serve_cache_bytes,
            patience=seconds + 1,
            parameters=_parameters(self.routes),
            never=NEVER,
        )
        app = Limit(app, settings.rate)
        if settings.origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.origins,
                allow_methods=["GET", "HEAD"],
                allow_headers=["*"],  # readers send what they like, and none of it is used
                expose_headers=["ETag", "Retry-After"],
            )
        self.app: ASGIApp = _Headed(app, by_origin=bool(settings.origins))

    def _routes(self) -> FastAPI:
        settings = self._settings
        app = FastAPIOffline(
            title="The Bitcoin Game: mining data",
            description=ABOUT,
            version="1",
            lifespan=self.running,
            redirect_slashes=False,
            static_url="/static",
            responses={
                404: {"model": Problem, "description": "not known here"},
                422: {"model": Problem, "description": "what was asked is malformed"},
                429: {"model": Problem, "description": "this address asks too often"},
                503: {"model": Problem, "description": "away, slow or busy; `reason` says what"},
            },
        )
        app.add_exception_handler(Unavailable, _unavailable)
        app.add_exception_handler(HTTPException, _refused)
        app.add_exception_handler(RequestValidationError, _malformed)
        self._health(app)
        database, pool = self._database, self._pool
        for router in (
            weeks.router(database, self._primary),
            miners.router(database),
            game.router(database, pool),
            receipts.router(database, settings.database_url),
            events.router(self.events),
            publicpool.router(database, pool),
            ckpool.router(database, pool),
            widget.router(pool),
            exposition.router(
                database,
                pool,
                miners=settings.serve_miner_metrics,
                patience=settings.serve_query_seconds,
            ),
        ):
            app.include_router(router)
        return app

    def _health(self, app: FastAPI) -> None:
        @app.get("/", include_in_schema=False)
        async def root() -> Response:
            return RedirectResponse("/docs")

        @app.head("/healthz", include_in_schema=False)
        @app.get("/healthz", response_class=PlainTextResponse, tags=["health"])
        async def healthz() -> str:
            """Whether this process answers."""
            return "alive\n"

        @app.head("/readyz", include_in_schema=False)
        @app.get("/readyz", response_class=PlainTextResponse, tags=["health"])
        async def readyz() -> str:
            """Whether the database can be read."""
            await self._database.fetch("select 1 from served_shares limit 0")
            return "ready\n"

    @contextlib.asynccontextmanager
    async def running(self, _app: object = None) -> AsyncIterator[None]:
        """Holds what the routes need: connections, and the writer of files."""
        await self._database.open()
        writing = None
        if self._settings.serve_files is not None:
            dialect = ckpool.Dialect(self._database, self._pool)
            files = Files(self._settings.serve_files, dialect, self._database)
            writing = asyncio.create_task(files.run())
        try:
            yield
        finally:
            self.events.close()
            if writing is not None:
                await end(writing)
            await self._primary.close()
            await self._database.close()


class _Headed:
    """Says of every answer what browsers and caches on the way must know.

    No browser takes a name for a page: the type that we say is the type. And no cache gives an
    answer of one origin to another one.
    """

    def __init__(self, app: ASGIApp, *, by_origin: bool) -> None:
        self._app = app
        self._by_origin = by_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers["x-content-type-options"] = "nosniff"
                if self._by_origin and "Origin" not in headers.get("vary", ""):
                    headers.add_vary_header("Origin")
                message = {**message, "headers": headers.raw}
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


def _parameters(app: FastAPI) -> Iterable[str]:
    """Every name of a query that a route knows."""
    schema = app.openapi()
    operations = itertools.chain.from_iterable(path.values() for path in schema["paths"].values())
    assert any(isinstance(route, APIRoute) for route in app.routes)
    return {
        parameter["name"]
        for operation in operations
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    }


def _problem(
    status: int, error: str, reason: str, headers: dict[str, str] | None = None
) -> Response:
    return JSONResponse({"error": error, "reason": reason}, status, headers)


async def _unavailable(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)
    return _problem(503, "not available", error.reason, {"Retry-After": RETRY_AFTER})


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "not found", 405: "method not allowed", 422: "malformed", 429: "too many"}
    word = words.get(error.status_code, "refused")
    return _problem(error.status_code, word, str(error.detail), dict(error.headers or {}))


async def _malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()]
    return _problem(422, "malformed", "; ".join(found))
