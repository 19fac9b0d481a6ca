"""The miner's side of Stratum V1."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

AGENT: Final = "tbg-devnet-miner"
ANSWER_TIMEOUT: Final = 30.0  # seconds
SILENCE_TIMEOUT: Final = 300.0  # seconds without a line; pools send a job every 30 or so
ALL_VERSION_BITS: Final = "1fffe000"  # BIP 320
MAX_NONCE2: Final = 32  # bytes of extranonce2; pools leave 2 to 8 to the miner
_MAX_LINE: Final = 1 << 20
_OTHER: Final = 20  # Stratum's code for an error without a code


class PoolGone(Exception):
    """The connection could not be made or ended."""


class PoolRefused(Exception):
    """The pool answered with an error; ``code`` is Stratum's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} (code {code})")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Notification:
    """A message that is not an answer."""

    method: str
    params: list[Any]


@dataclass(frozen=True, slots=True)
class Subscription:
    """Our extranonce1, the size of extranonce2, and the version bits that we may roll."""

    nonce1: bytes
    nonce2_length: int
    version_mask: int


def pool_address(url: str) -> tuple[str, int]:
    """Host and port of ``stratum+tcp://host:port``, or of ``host:port``.

    Raises:
        ValueError: when it does not name a host and a port.
    """
    parts = urlsplit(url if "://" in url else f"stratum+tcp://{url}")
    if parts.scheme not in ("stratum+tcp", "tcp") or not parts.hostname or not parts.port:
        raise ValueError(f"{url!r} is not stratum+tcp://host:port")
    return parts.hostname, parts.port


class StratumClient:
    """One connection to a pool; ``connect`` makes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def call(self, method: str, *params: Any) -> Any:
        """The result of a request; :meth:`notifications` has to run meanwhile.

        Raises:
            PoolRefused: the pool's error.
            PoolGone: no answer.
        """
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._write(number, method, params)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await answer
        except TimeoutError:
            raise PoolGone(f"no answer to {method}") from None
        except OSError as error:
            raise PoolGone(str(error)) from None
        finally:
            del self._answers[number]

    async def handshake(self, user: str, password: str, *, roll_versions: bool) -> Subscription:
        """Configures version rolling, subscribes and authorises.

        Raises:
            PoolRefused: most likely because of the user.
            PoolGone: no answer, or an invalid one.
        """
        mask = 0
        if roll_versions:
            mask = await self._configure()
        result = await self.call("mining.subscribe", AGENT)
        try:
            subscription = Subscription(bytes.fromhex(result[1]), int(result[2]), mask)
        except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
            raise PoolGone(f"the answer to mining.subscribe makes no sense: {error}") from None
        if not 0 <= subscription.nonce2_length <= MAX_NONCE2:
            raise PoolGone(f"the pool leaves {subscription.nonce2_length} bytes of extranonce2")
        if await self.call("mining.authorize", user, password) is not True:
            raise PoolRefused(24, "the pool does not authorise this user")
        return subscription

    def suggest_difficulty(self, difficulty: float) -> None:
        """Asks for a share difficulty, rounded to four digits.

        It does not wait: ckpool, for one, takes a suggestion without an answer.
        """
        self._write(next(self._ids), "mining.suggest_difficulty", (float(f"{difficulty:.4g}"),))

    def _write(self, number: int, method: str, params: tuple[Any, ...]) -> None:
        line = json.dumps({"id": number, "method": method, "params": params})
        self._writer.write(line.encode() + b"\n")

    async def _configure(self) -> int:
        options = {
            "version-rolling.mask": ALL_VERSION_BITS,
            "version-rolling.min-bit-count": 2,
        }
        try:
            result = await self.call("mining.configure", ["version-rolling"], options)
            if result.get("version-rolling") is not True:
                return 0
            return int(result["version-rolling.mask"], 16) & int(ALL_VERSION_BITS, 16)
        except (PoolRefused, AttributeError, KeyError, TypeError, ValueError):
            return 0  # a pool that does not know BIP 310

    async def notifications(self) -> AsyncIterator[Notification]:
        """Messages that are not answers, until the connection ends; answers go to their calls.

        Raises:
            PoolGone: at the end.
        """
        try:
            while True:
                async with asyncio.timeout(SILENCE_TIMEOUT):
                    line = await self._reader.readline()
                if not line:
                    raise PoolGone("the pool closed the connection")
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise PoolGone("the pool sent a line that is not a message")
                if "method" in message:
                    params = message.get("params")
                    yield Notification(
                        str(message["method"]), params if isinstance(params, list) else []
                    )
                else:
                    self._answer(message)
        except TimeoutError:
            raise PoolGone(f"the pool was silent for {SILENCE_TIMEOUT:g} s") from None
        except (OSError, ValueError, RecursionError) as error:
            raise PoolGone(str(error)) from None

    def _answer(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        answer = self._answers.get(number) if isinstance(number, int) else None
        if answer is None or answer.done():
            return
        if error := message.get("error"):
            answer.set_exception(_refusal(error))
        else:
            answer.set_result(message.get("result"))


def _refusal(error: Any) -> PoolRefused:
    """The error of an answer: ``[code, text, …]``, or whatever else a pool makes of it."""
    if isinstance(error, list) and len(error) > 1:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return PoolRefused(int(error[0]), str(error[1]))
    return PoolRefused(_OTHER, str(error))


@asynccontextmanager
async def connect(host: str, port: int) -> AsyncIterator[StratumClient]:
    """A connection to the pool, closed at the end of the block.

    Raises:
        PoolGone: when it cannot be made.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port, limit=_MAX_LINE)
    except (OSError, TimeoutError) as error:
        raise PoolGone(f"{host}:{port} is not reachable: {error}") from None
    try:
        yield StratumClient(reader, writer)
    finally:
        writer.close()
