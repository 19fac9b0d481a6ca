"""Finds where a writer goes on in the streams: by their entries, not by ids alone.

The entry of a committed id is always in its stream, because trimming keeps it. Where it is
gone, Redis lost its last moments, or the stream, or it is another Redis. Ids say nothing
then: a clock that is behind gives new entries ids below the offset. So the way back leads to
the newest mark whose entry is still there, and what is read again after it is recognised: by
its number, or, without one, by its id and content.
"""

import secrets
from typing import Final

import structlog

from ingest.writer.offsets import Offsets, OffsetsMovedError, Position, Positions
from ingest.writer.streams import End, Streams
from tbg_core.entry import START, id_key
from tbg_core.names import STREAMS

_AT_ONCE: Final = 50  # marks looked up in one round trip

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.resume")


async def resume(offsets: Offsets, streams: Streams) -> Positions:
    """Sets the offsets to where this Redis's streams go on, and returns them.

    Raises:
        OffsetsMovedError: another writer is at work.
    """
    former = await offsets.load()
    others = await offsets.others()
    ends = await streams.ends()
    redis = await streams.identity()
    if redis is None:
        places = [(offsets.redis, former), *others.values()]
        known = await _same(offsets, streams, places)
        redis = await streams.name(known or secrets.token_hex(16))
    if offsets.redis not in ("", redis):
        log.warning("another redis than before: going on with its own streams", redis=redis)
        # What was committed of its streams, if anything, only marks say.
        positions = dict.fromkeys(former, Position())
        doubtful = set(former)
    else:
        positions, doubtful = await _judge(streams, former, ends)
    adopted = []
    if not offsets.redis:  # of the version before this one, or of another name
        for consumer, (identity, theirs) in others.items():
            found, _ = await _judge(streams, theirs, ends)
            held = {name: found[name] for name in found if found[name].last_id != START}
            if identity not in ("", redis) or not held:
                continue
            adopted.append(consumer)
            for stream, position in held.items():
                if id_key(position.last_id) > id_key(positions[stream].last_id):
                    positions[stream] = position
                    doubtful.discard(stream)
    for stream in sorted(doubtful):
        positions[stream] = await _way_back(offsets, streams, redis, stream)
        if former[stream].last_id != START:
            _say(stream, former[stream], positions[stream], ends[stream])
    await offsets.place(redis, positions, former)
    for stream in doubtful:
        await offsets.lose_marks(stream)
    for consumer in adopted:
        log.warning("going on where another consumer stopped", consumer=consumer)
        await offsets.forget(consumer)
    await offsets.load_marks({stream: end.first for stream, end in ends.items()})
    return positions


async def check(offsets: Offsets, streams: Streams) -> None:
    """Makes sure that Redis still has what was committed last.

    Raises:
        OffsetsMovedError: it has not: :func:`resume` finds the way back.
    """
    positions = {
        stream: Position(last_id, 0, offsets.entries[stream])
        for stream, last_id in offsets.committed.items()
    }
    if None in await streams.look_up(list(positions.items())):
        _, doubtful = await _judge(streams, positions, await streams.ends())
        if doubtful:
            raise OffsetsMovedError(
                f"redis lost committed entries of {', '.join(sorted(doubtful))}"
            )


async def _same(
    offsets: Offsets, streams: Streams, places: list[tuple[str, Positions]]
) -> str | None:
    """The identity that a Redis without one had: its entries say so."""
    for redis, positions in places:
        known = [(name, one) for name, one in positions.items() if one.entry is not None]
        if redis and any(await streams.look_up(known)):
            return redis
    for redis in await offsets.identities():
        for stream in STREAMS:
            if (await _way_back(offsets, streams, redis, stream)).last_id != START:
                return redis
    return None


async def _judge(
    streams: Streams, positions: Positions, ends: dict[str, End]
) -> tuple[Positions, set[str]]:
    """The positions, and which of them this Redis does not know."""
    judged = dict(positions)
    doubtful = set()
    found = await streams.look_up(list(positions.items()))
    for (stream, position), there in zip(positions.items(), found, strict=True):
        if there is not None:
            judged[stream] = there
        elif not ends[stream].holds_nothing_but(position.last_id):
            doubtful.add(stream)
    return judged, doubtful


async def _way_back(offsets: Offsets, streams: Streams, redis: str, stream: str) -> Position:
    marks = list((await offsets.find_marks(redis, stream)).values())
    for at in range(0, len(marks), _AT_ONCE):
        found = await streams.look_up([(stream, mark) for mark in marks[at : at + _AT_ONCE]])
        for position in found:
            if position is not None:
                return position
    return Position()


def _say(stream: str, former: Position, position: Position, end: End) -> None:
    lost = {"stream": stream, "committed": former.last_id, "newest": end.last}
    if position.last_id == START:
        log.error("redis lost a stream: reading it from its beginning", **lost)
    else:
        log.error(
            "redis lost the end of a stream: reading on after what is left of it",
            **lost,
            after=position.last_id,
        )
