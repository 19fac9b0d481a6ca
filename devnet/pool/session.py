"""One miner's connection: the conversation of Stratum V1, without the socket under it."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from devnet.bitcoin.difficulty import difficulty_from_target
from devnet.pool.events import Miner
from devnet.pool.identity import IdentityError, identify, password_options
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
from devnet.pool.values import difficulty, hex_digits, mask_bits, printable_or_none
from devnet.pool.vardiff import Vardiff
from devnet.pool.work import Payout, Work, signature_with_tag

if TYPE_CHECKING:
    from devnet.pool.pool import Pool

MAX_USER_AGENT: Final = 256  # characters, as in the event contract
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
        self.miner: Miner | None = None
        self.payout: Payout | None = None
        self.authorized_at = 0.0
        self.accepted = 0
        self.rejected = 0
        self.best = 0.0
        self.vardiff = Vardiff(pool.bounds().clamp(pool.config.startdiff), time.monotonic())
        # (serial of the newest work at that moment, difficulty before), oldest first
        self._changes: deque[tuple[int, float]] = deque(maxlen=_CHANGES_KEPT)
        self._suggested: dict[str, float] = {}  # the last wish by the method that told it
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
            self.send(error_line(error.id, OTHER, str(error)))
            self._fault()
            return
        if request is None:
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
        options = (request.params[1] if len(request.params) > 1 else None) or {}
        if not isinstance(names, list) or not isinstance(options, dict) or len(names) > 16:
            raise Refusal(OTHER, "mining.configure takes a list of extensions and their parameters")
        result: dict[str, Any] = {}
        for name in names:
            if not isinstance(name, str):
                raise Refusal(OTHER, "the name of an extension is a text")
            if name == "version-rolling":
                mask = self.pool.config.version_mask
                if (wanted := options.get("version-rolling.mask")) is not None:
                    mask &= mask_bits(wanted)
                result[name] = mask != 0
                result["version-rolling.mask"] = f"{mask:08x}"
            elif name == "minimum-difficulty":
                minimum = difficulty(options.get("minimum-difficulty.value"))
                result[name] = minimum is not None
                if minimum is not None:
                    self._suggest(minimum, name, "minimum-difficulty")
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
            if isinstance(name, str) and self.miner.identity.answers_to(name, self.pool.network):
                return True
            raise Refusal(24, "this connection is authorised for another worker: open a second one")
        try:
            identity = identify(name, self.pool.network)
        except IdentityError as error:
            raise Refusal(24, str(error), fault=True) from None
        options = password_options(request.params[1] if len(request.params) > 1 else None)
        signature = signature_with_tag(self.pool.config.btcsig, options.tag)
        if options.difficulty is not None:
            self._suggest(options.difficulty, request.method, "password")
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
        wanted = difficulty(request.params[0] if request.params else None)
        if wanted is None:
            raise Refusal(OTHER, "a difficulty is a number above 0")
        self._suggest(wanted, request.method, "suggest")
        return True

    def _suggest_target(self, request: Request) -> bool:
        target = int(hex_digits(request.params[0] if request.params else None, 64) or "0", 16)
        if target == 0:
            raise Refusal(OTHER, "a target is 64 hex digits above 0")
        self._suggest(difficulty_from_target(target), request.method, "suggest")
        return True

    def _suggest(self, wanted: float, method: str, reason: str) -> None:
        """Takes a miner's wish as its difficulty now, and as a minimum from then on.

        Firmware repeats its wish to keep the connection alive: that changes nothing.
        """
        latest = next(reversed(self._suggested.values()), None)
        known = wanted in (self._suggested.pop(method, None), latest)
        self._suggested[method] = wanted
        if known:
            return
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
        told = self.vardiff.difficulty
        # A whole number is written without a point: some firmware reads no further than digits.
        self.send(notification_line("mining.set_difficulty", [int(told) if told >= 1 else told]))
