"""tbg smoke: real shares, mined, reach every store, and the counts agree."""

import json

from tbg.stack.counts import ACCEPTED, REJECTED
from tests.tbg.command import tbg


def test_every_event_reaches_every_store() -> None:
    done = tbg("smoke", "--json", "--seconds", "1", timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["events"][ACCEPTED]["database"] >= 10
    assert found["events"][REJECTED]["database"] >= 1
    assert found["events"]["block_found"]["database"] == found["blocks"] >= 1
    for kind, hops in found["events"].items():
        assert hops["emitted"] == hops["redis"] == hops["database"], kind
    assert found["latency_ms"]["redis"]["shares"] == found["latency_ms"]["database"]["shares"]
