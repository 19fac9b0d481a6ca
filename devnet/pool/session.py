"""The conversation of Stratum V1 with one miner, without the socket under it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from devnet.bitcoin.difficulty import difficulty_from_target
from devnet.pool.assigned import AssignedDifficulty
from devnet.pool.identity import Identity, IdentityError, Miner, identify, password_options
from devnet.pool.mining import Mining
from devnet.pool.pool import Pool
from devnet.pool.protocol import (
    OTHER,
    ProtocolError,
    Request,
    error_line,
    parse_request,
    result_line,
    shown,
)
from devnet.pool.rejection import Rejection
from devnet.pool.values import difficulty, hex_digits, mask_bits, printable_or_none
from devnet.pool.vardiff import Vardiff
from devnet.pool.work import Payout, signature_with_root, signature_with_tag

MAX_USER_AGENT: Final = 256  # characters, as in the event contract
MAX_FAULTS: Final = 5  # unreadable lines or refused authorisations until it is closed

log = structlog.get_logger("pool")


class Refusal(Exception):
    """A request whose answer is an error; a fault counts against the connection."""

    def __init__(self, code: int, text: str, *, fault: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.fault = fault


@dataclass(eq=False)
class Session:
    """One connection, from its first line to its end.

    Args:
        pool: the state that all connections share.
        client_id: the number of the connection.
        ip: the miner's IP address.
        send: sends a line to the miner; never waits.
        close: ends the connection, with a reason for its event.
    """

    pool: Pool
    client_id: int
    ip: str
    send: Callable[[bytes], None]
    close: Callable[[str], None]
    subscribed: bool = False
    user_agent: str | None = None
    mining: Mining | None = None
    _faults: int = 0

    def __post_init__(self) -> None:
        self.nonce1 = self.pool.nonces.take()
        start = self.pool.works.bounds().clamp(self.pool.config.startdiff)
        self.assigned = AssignedDifficulty(Vardiff(start, time.monotonic()))
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
            text = str(error)
            if line.startswith(b"PROXY "):
                text = f"No proxy is known at {self.ip}: name it in the pool's setting `proxies`"
            self.send(error_line(error.id, OTHER, text))
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
        if request.method == "mining.authorize" and self.mining is not None:
            self.mining.start()

    def end(self, reason: str) -> None:
        """The connection has ended, authorised or not."""
        self.pool.nonces.release(self.nonce1)
        if self.mining is not None:
            self.mining.end(reason)

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
                raise Refusal(OTHER, "the name of an extension must be text")
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
        if self.mining is not None:
            identity = self._identify(name)
            if self.mining.join(identity):
                return True
            raise Refusal(
                24,
                "this connection works for another address, or has as many workers as it may:"
                " open a second one",
            )
        identity = self._identify(name)
        options = password_options(request.params[1] if len(request.params) > 1 else None)
        config = self.pool.config
        signature = signature_with_tag(
            signature_with_root(config.btcsig, config.roots), options.tag
        )
        if options.difficulty is not None:
            self._suggest(options.difficulty, request.method, "password")
        payout = Payout(identity.script_pubkey, signature)
        miner = Miner(identity, payout, self.client_id, self.ip, self.user_agent)
        self.mining = Mining(self.pool, miner, self.nonce1, self.assigned, self.send, self.close)
        return True

    def _identify(self, name: Any) -> Identity:
        try:
            return identify(name, self.pool.network)
        except IdentityError as error:
            raise Refusal(24, str(error), fault=True) from None

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
        """Takes a miner's wish as its difficulty now, and as a minimum from then on."""
        new = self.assigned.wish(method, wanted, self.pool.works.bounds())
        if new is None:
            return
        if self.mining is None:
            self.assigned.change(time.monotonic(), new, self.pool.works.current.serial)
        else:
            self.mining.reassign(new, reason)

    def _submit(self, request: Request) -> None:
        if self.mining is not None:
            self.mining.submit(request)
            return
        # There is no address that an event could name.
        self.pool.refused_strangers += 1
        rejection = Rejection.UNAUTHORIZED if self.subscribed else Rejection.NOT_SUBSCRIBED
        self.send(error_line(request.id, rejection.code, rejection.text))
