"""A line of a share log becomes a share that fits the contract, or is refused for a reason."""

import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tbg.sharelog.event import share_event
from tbg.sharelog.line import KNOWN, MAX_LINE, BadLine, parse, split_username
from tbg_core.decode import Refused, decode
from tests.tbg.sharelog.logs import line

NOON = 1_763_769_600


def made(**changes: Any) -> bytes:
    return json.dumps(line(NOON, random.Random("one"), **changes)).encode()


def refusal(raw: bytes) -> str:
    with pytest.raises(BadLine) as caught:
        parse(raw)
    return caught.value.reason


def test_an_accepted_share_says_what_the_line_says() -> None:
    share = parse(
        b'{"workinfoid": 7452731920372203525, "clientid": 1, "enonce1": "336c6d67", '
        b'"nonce2": "0000000000000000", "nonce": "2eb7b82b", "ntime": "676d6caa", "diff": 1.0, '
        b'"sdiff": 1.5, "hash": "' + b"0a" * 32 + b'", "result": true, "errn": 0, '
        b'"createdate": "1735224559,536904211", "createby": "code", '
        b'"createcode": "parse_submit", "createinet": "0.0.0.0:3333", '
        b'"workername": "tb1quser.rig", "username": "tb1quser", '
        b'"address": "2001:db8::1", "agent": "cpuminer/2.5.1"}'
    )
    assert share.micros == 1_735_224_559_536_904
    assert share.data["valid"]
    assert not share.unknown
    assert share.data == {
        "user": "tb1quser",
        "worker": "rig",
        "difficulty": 1.0,
        "share_diff": 1.5,
        "valid": True,
        "reject_reason": None,
        "job_id": "676d6c3200000005",
        "nonce": "2eb7b82b",
        "nonce2": "0000000000000000",
        "ip": "2001:db8::1",
        "client_id": 1,
        "ntime": "676d6caa",
        "hash": "0a" * 32,
        "user_agent": "cpuminer/2.5.1",
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"errn": 1, "error": "Invalid JobID"}, "Invalid JobID"),
        ({"errn": 2}, "Stale"),
        ({"errn": 3, "error": None, "reject-reason": "Ntime out of range"}, "Ntime out of range"),
        ({"errn": 4, "error": 17}, "Duplicate"),
        ({"errn": 5}, "Above target"),
        ({"errn": 6}, "Invalid version mask"),
        ({"errn": 7}, "No workbase"),
        ({"errn": -3, "error": "Invalid nonce2 length"}, "Invalid nonce2 length"),
        ({"errn": -3}, "Malformed"),
        ({"errn": 99, "reject-reason": "x" * 200}, "x" * 128),
        ({"errn": None, "error": "\x00"}, "unknown"),
        ({"errn": True}, "unknown"),
        ({"errn": "2"}, "unknown"),
    ],
)
def test_a_rejected_share_says_why_in_ckpools_words(fields: dict[str, Any], reason: str) -> None:
    share = parse(made(result=False, **({"error": None} | fields)))
    assert share.data["reject_reason"] == reason


def test_a_rejected_share_may_lack_what_was_never_computed() -> None:
    share = parse(made(result=False, errn=1, sdiff=-1.0, hash="", nonce="zz", workinfoid=None))
    assert share.data["share_diff"] is None
    assert share.data["hash"] is None
    assert share.data["nonce"] is None
    assert share.data["job_id"] is None


@pytest.mark.parametrize(
    ("name", "user", "worker"),
    [
        ("bc1q.rig", "bc1q", "rig"),
        ("bc1q", "bc1q", ""),
        ("  bc1q.rig \n", "bc1q", "rig"),
        ("bitcoin:bc1q.rig", "bc1q", "rig"),
        ("BitCoin:bc1q_rig.2", "bc1q", "rig.2"),
        ("bc1q/rig+1", "bc1q", "rig+1"),
        ("bc1q+rig", "bc1q", "rig"),
        ("bc1q. rig", "bc1q", "rig"),
        ("b" * 99 + "." + "w" * 200, "b" * 90, "w" * 128),
        ("a\x00b.c\x00d", "ab", "cd"),
        ("bitcoin:", "", ""),
    ],
)
def test_a_user_name_is_split_as_the_engines_split_it(name: str, user: str, worker: str) -> None:
    assert split_username(name) == (user, worker)


def test_the_user_name_stands_in_for_a_worker_name_without_an_address() -> None:
    assert parse(made(workername=".rig", username="bc1q")).data["user"] == "bc1q"
    assert parse(made(workername=".rig", username="bc1q")).data["worker"] == "rig"
    assert parse(made(workername=None, username="bc1q.x")).data["user"] == "bc1q"
    assert refusal(made(workername="..", username="")) == "no_user"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b" \r", "empty"),
        (b"\x00" * 100, "not_json"),
        (made()[:-20], "not_json"),
        (made() + made(), "not_json"),
        (b"[" * 20_000, "not_json"),
        (b'"text"', "not_an_object"),
        (b"{}", "no_result"),
        (b"x" * (MAX_LINE + 1), "too_long"),
        (made(result="true"), "no_result"),
        (made(createdate="yesterday"), "no_time"),
        (made(createdate="1763769600"), "no_time"),
        (made(createdate="1763769600,1000000000"), "no_time"),
        (made(createdate="5,0"), "no_time"),
        (made(createdate="999999999999,0"), "no_time"),
        (made(createdate=1763769600), "no_time"),
        (made(diff=0), "no_difficulty"),
        (made(diff=True), "no_difficulty"),
        (made(diff="512"), "no_difficulty"),
        (made(diff=10**400), "no_difficulty"),
        (made(diff=2.7e67), "no_difficulty"),
        (made(diff=9.9e-13), "no_difficulty"),
        (made(diff=5e-324), "no_difficulty"),
        (made(result=True, sdiff=1.7e308), "accepted_without_proof"),
        (made(result=True, sdiff=1e-310), "accepted_without_proof"),
        (made(result=True, sdiff=-1.0), "accepted_without_proof"),
        (made(result=True, nonce="abc"), "accepted_without_proof"),
        (made(result=True, nonce2=None), "accepted_without_proof"),
        (made(result=True, workinfoid=True), "accepted_without_proof"),
    ],
)
def test_what_is_not_a_share_is_refused_for_a_reason(raw: bytes, reason: str) -> None:
    assert refusal(raw) == reason


def test_a_share_is_not_lost_for_an_address_that_is_none() -> None:
    for address in ("", "300.1.1.1", "fe80::1%eth0", None, 7, "1" * 60):
        assert parse(made(address=address)).data["ip"] == "0.0.0.0"  # noqa: S104  # a value in an event, nothing listens


def test_unknown_fields_are_named_and_left_out() -> None:
    share = parse(made(version_mask="1fffe000", color="red"))
    assert share.unknown == {"version_mask", "color"}
    assert "color" not in share.data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
HOSTILE = st.dictionaries(st.sampled_from(sorted(KNOWN)) | st.text(max_size=5), JSON, max_size=8)


@given(HOSTILE)
@example({"workername": "\U0001f40b" * 300 + "." + "\x1f" * 300, "agent": "\x01" * 900})
@example({"errn": -1, "error": "\x02" * 900, "result": False, "hash": "0g" * 32})
def test_whatever_a_line_holds_its_share_fits_the_contract(changes: dict[str, Any]) -> None:
    raw = made(**changes)
    try:
        share = parse(raw)
    except BadLine:
        return
    datagram = share_event(share, "sharelog/x/2025-11-22T00", 1)
    try:
        event = decode(datagram)
    except Refused as refused:
        # The one rule that depends on the clock is the receiver's to judge.
        assert refused.reason == "bad_envelope"  # noqa: PT017  # either outcome is right
        assert "ahead of this machine's clock" in refused.detail  # noqa: PT017  # either outcome is right
    else:
        assert event.data.user == share.data["user"]
        assert event.seq == 1


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    try:
        parse(raw)
    except BadLine as error:
        assert error.reason  # noqa: PT017  # either outcome is right


@given(st.data())
def test_a_line_with_a_byte_changed_is_a_share_or_refused(data: st.DataObject) -> None:
    raw = bytearray(made())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        share = parse(bytes(raw))
    except BadLine as error:
        assert error.reason  # noqa: PT017  # either outcome is right
    else:
        assert share.data["user"]
