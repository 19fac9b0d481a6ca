"""One miner's connection: the conversation of Stratum V1, without the socket under it."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from devnet.bitcoin.difficulty import MAX_TARGET, difficulty_from_target
from devnet.pool.events import Miner
from devnet.pool.identity import (
    MAX_USER_AGENT,
    IdentityError,
    identify,
    printable,
    printable_or_none,
    tag_from_password,
)
from devnet.pool.protocol import (
    OTHER,
    ProtocolError,
    Request,
    error_line,
    notification_line,
    parse_request,
    result_line,
    shown,
)
from devnet.pool.rejection import Rejection
from devnet.pool.vardiff import Vardiff
from devnet.pool.work import Payout, Work, signature_with_tag

if TYPE_CHECKING:
    from devnet.pool.pool import Pool

MAX_FAULTS: Final = 5  # lines that are no request, or refused authorisations, until it is closed
MAX_REJECTED: Final = 500  # shares in a row: a miner that only costs, and gains nothing by it
_CHANGES_KEPT: Final = 16  # difficulty changes within the life of one job

log = structlog.get_logger("pool")


class Refusal(Exception):
    """A request that gets an error as its answer."""

    def __init__(self, code: int, text: str, *, fault: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.fault = fault


class Session:
    """What the pool knows about one connection.

    Args:
        pool: whose work is handed out, and who judges shares.
        client_id: the number of the connection.
        ip: the miner's address, as text.
        send: takes lines for the miner; never waits.
        close: ends the connection, with a reason for its event.
    """

    def __init__(
        self,
        pool: "Pool",
        client_id: int,
        ip: str,
        send: Callable[[bytes], None],
        close: Callable[[str], None],
    ) -> None:
        self.pool = pool
        self.client_id = client_id
        self.ip = ip
        self.send = send
        self.close = close
        self.nonce1 = pool.next_nonce1()
        self.subscribed = False
        self.user_agent: str | None = None
        self.version_mask = 0
        self.miner: Miner | None = None
        self.payout: Payout | None = None
        self.authorized_at = 0.0
        self.accepted = 0
        self.rejected = 0
        self.best = 0.0
        self.vardiff = Vardiff(pool.bounds().clamp(pool.config.startdiff), time.monotonic())
        # (serial of the newest work at that moment, difficulty before), oldest first
        self._changes: deque[tuple[int, float]] = deque(maxlen=_CHANGES_KEPT)
        self._faults = 0
        self._rejected_in_a_row = 0
        self._methods: dict[str, Callable[[Request], Any]] = {
            "mining.configure": self._configure,
            "mining.subscribe": self._subscribe,
            "mining.extranonce.subscribe": self._subscribe_extranonce,
            "mining.authorize": self._authorize,
            "mining.suggest_difficulty": self._suggest_difficulty,
            "mining.suggest_target": self._suggest_target,
        }

    def handle(self, line: bytes) -> None:
        """Answers one line."""
        try:
            request = parse_request(line)
        except ProtocolError as error:
            log.debug("bad line", client=self.client_id, ip=self.ip, error=str(error))
            self.send(error_line(None, OTHER, str(error)))
            self._fault()
            return
        if request.method == "mining.submit":
            self._submit(request)
            return
        method = self._methods.get(request.method)
        if method is None:
            text = f"Unknown method {shown(request.method)}"
            self.send(error_line(request.id, OTHER, text))
            return
        try:
            result = method(request)
        except Refusal as refusal:
            self.send(error_line(request.id, refusal.code, refusal.text))
            if refusal.fault:
                self._fault()
            return
        self.send(result_line(request.id, result))
        if request.method == "mining.authorize":
            self._start()

    def send_work(self, work: Work, *, clean: bool) -> None:
        """Hands out a job; nothing to somebody who is not authorised."""
        if self.payout is not None:
            self.send(self.pool.notify_line(work, self.payout, clean=clean))

    def required(self, work: Work) -> float:
        """The difficulty that a share of this work is held to.

        A miner told of a new difficulty may go on with the old one until its next job, and may
        as well use the new one at once. So for work that was handed out before the change, the
        lowest difficulty in force since then counts.
        """
        before = [old for serial, old in self._changes if work.serial <= serial]
        return min(self.vardiff.difficulty, *before) if before else self.vardiff.difficulty

    def count_accepted(self) -> None:
        """A share was accepted."""
        self.accepted += 1
        self._rejected_in_a_row = 0

    def count_rejected(self) -> None:
        """A share was rejected; after very many in a row the connection is closed."""
        self.rejected += 1
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row >= MAX_REJECTED:
            self.close("too many rejected shares")

    def change_difficulty(self, new: float) -> None:
        """Assigns another difficulty and tells the miner; the caller writes the event."""
        self._changes.append((self.pool.work.serial, self.vardiff.difficulty))
        self.vardiff.change(time.monotonic(), new)
        if self.miner is not None:
            self._send_difficulty()

    def _fault(self) -> None:
        self._faults += 1
        if self._faults >= MAX_FAULTS:
            self.close("protocol errors")

    def _configure(self, request: Request) -> dict[str, Any]:
        """BIP 310: version-rolling, minimum-difficulty and subscribe-extranonce."""
        names = request.params[0] if request.params else None
        options = request.params[1] if len(request.params) > 1 else {}
        if not isinstance(names, list) or not isinstance(options, dict) or len(names) > 16:
            raise Refusal(OTHER, "mining.configure takes a list of extensions and their parameters")
        result: dict[str, Any] = {}
        for name in names:
            if not isinstance(name, str):
                raise Refusal(OTHER, "the name of an extension is a text")
            if name == "version-rolling":
                self.version_mask = self.pool.config.version_mask & _hex32(
                    options.get("version-rolling.mask", "ffffffff")
                )
                result[name] = self.version_mask != 0
                result["version-rolling.mask"] = f"{self.version_mask:08x}"
            elif name == "minimum-difficulty":
                minimum = _difficulty(options.get("minimum-difficulty.value"))
                result[name] = minimum is not None
                if minimum is not None:
                    self._suggest(minimum, "minimum-difficulty")
            else:
                result[shown(name)] = name == "subscribe-extranonce"
        return result

    def _subscribe(self, request: Request) -> list[Any]:
        agent = request.params[0] if request.params else None
        self.user_agent = printable_or_none(agent, MAX_USER_AGENT)
        self.subscribed = True
        subscription = f"{self.client_id:08x}"
        return [
            [["mining.set_difficulty", subscription], ["mining.notify", subscription]],
            self.nonce1.hex(),
            self.pool.config.nonce2length,
        ]

    def _subscribe_extranonce(self, _: Request) -> bool:
        return True  # it will never change

    def _authorize(self, request: Request) -> bool:
        if not self.subscribed:
            raise Refusal(Rejection.NOT_SUBSCRIBED.code, Rejection.NOT_SUBSCRIBED.text)
        name = request.params[0] if request.params else None
        if self.miner is not None:
            if name == self.miner.identity.name:
                return True
            raise Refusal(24, "this connection is authorised for another worker: open a second one")
        try:
            identity = identify(name, self.pool.network)
        except IdentityError as error:
            raise Refusal(24, str(error), fault=True) from None
        tag = tag_from_password(request.params[1] if len(request.params) > 1 else None)
        signature = signature_with_tag(self.pool.config.btcsig, tag)
        self.miner = Miner(identity, self.client_id, self.ip, self.user_agent)
        self.payout = Payout(identity.script_pubkey, signature)
        return True

    def _start(self) -> None:
        """Hands out the first work after the answer to the first authorisation."""
        if self.authorized_at or self.miner is None:
            return
        self.authorized_at = time.monotonic()
        self.pool.joined(self, self.miner)
        self._send_difficulty()
        self.send_work(self.pool.work, clean=True)

    def _suggest_difficulty(self, request: Request) -> bool:
        wanted = _difficulty(request.params[0] if request.params else None)
        if wanted is None:
            raise Refusal(OTHER, "a difficulty is a number above 0")
        self._suggest(wanted, "suggest")
        return True

    def _suggest_target(self, request: Request) -> bool:
        value = request.params[0] if request.params else None
        try:
            target = int(value, 16) if isinstance(value, str) and len(value) == 64 else 0
        except ValueError:
            target = 0
        if not 0 < target <= MAX_TARGET:
            raise Refusal(OTHER, "a target is 64 hex digits above 0")
        self._suggest(difficulty_from_target(target), "suggest")
        return True

    def _suggest(self, wanted: float, reason: str) -> None:
        """Takes a miner's wish as its difficulty now, and as a minimum from then on."""
        new = self.pool.bounds().clamp(wanted)
        self.vardiff.floor = new
        old = self.vardiff.difficulty
        if new == old:
            return
        self.change_difficulty(new)
        if self.miner is not None:
            self.pool.events.difficulty(self.miner, old, new, reason)

    def _submit(self, request: Request) -> None:
        if self.miner is not None and self.payout is not None:
            self.pool.submit(self, self.miner, self.payout, request)
            return
        # Nobody's share: there is no address that an event could name.
        self.pool.refused_strangers += 1
        rejection = Rejection.UNAUTHORIZED if self.subscribed else Rejection.NOT_SUBSCRIBED
        self.send(error_line(request.id, rejection.code, rejection.text))

    def _send_difficulty(self) -> None:
        self.send(notification_line("mining.set_difficulty", [self.vardiff.difficulty]))


def _difficulty(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e300 else None  # NaN is not above 0


def _hex32(value: Any) -> int:
    try:
        return int(printable(value, 8), 16) if isinstance(value, str) else 0
    except ValueError:
        return 0
