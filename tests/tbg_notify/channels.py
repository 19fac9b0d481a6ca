"""Local counterparts of channels: they take messages, and can be told to refuse."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tbg.stack.embedded import free_port


@dataclass
class Web:
    """An HTTP server that takes JSON, shaped as ntfy's answers are."""

    port: int
    taken: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # of each taken, by time.monotonic
    status: int = 200
    hold: threading.Event | None = None
    arrived: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def web() -> Iterator[Web]:
    """Serves until the block ends."""
    made: Web

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.arrived.set()
            if made.hold is not None:
                made.hold.wait(60)
            if made.status == 200:
                made.times.append(time.monotonic())
                made.taken.append(json.loads(body))
            answer = json.dumps({"id": "x", "event": "message"}).encode()
            with contextlib.suppress(OSError):
                self.send_response(made.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Web(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        if made.hold is not None:
            made.hold.set()
        server.shutdown()
        server.server_close()


@dataclass
class Mail:
    """An SMTP server, and the mails that it took."""

    port: int = 0
    taken: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802, ARG002  aiosmtpd's names
        """Takes a mail."""
        assert isinstance(envelope.content, bytes)
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        self.taken.append(parsed)
        return "250 OK"

    def html(self) -> str:
        """The newest mail's page."""
        body = self.taken[-1].get_body(("html",))
        assert body is not None
        return str(body.get_content())


@contextlib.contextmanager
def mail(made: Mail | None = None) -> Iterator[Mail]:
    """Serves until the block ends."""
    made = made or Mail()
    made.port = free_port()
    controller = Controller(made, hostname="127.0.0.1", port=made.port)
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
