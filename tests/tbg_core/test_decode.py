"""The contract: what decodes, what is refused, and that both decoders agree."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tbg_core import events
from tbg_core.decode import REASONS, Refused, decode, decode_data, identify
from tbg_core.events import EVENTS, MAX_DATAGRAM
from tests.clock import HOUR, Clock
from tests.ingest.harness import GOLDEN, golden, packed


def refused(datagram: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(datagram)
    assert caught.value.reason in REASONS
    return caught.value


def proof(**changes: Any) -> dict[str, Any]:
    """A proof of the right form, which proves nothing, with changes."""
    return {"header": "00" * 80, "coinbase": "01", "branch": ["ab" * 32], **changes}


def plain(value: Any) -> Any:
    """A decoded value of either decoder as JSON has it."""
    return value.model_dump() if isinstance(value, BaseModel) else msgspec.to_builtins(value)


@pytest.mark.parametrize("event", EVENTS)
def test_the_golden_datagram_decodes_and_keeps_every_field(event: str) -> None:
    raw = (GOLDEN / f"{event}.json").read_bytes()
    value = json.loads(raw)
    decoded = decode(raw)
    assert (decoded.event, decoded.timestamp, decoded.source) == (
        event,
        value["timestamp"],
        "hosted",
    )
    assert (decoded.instance, decoded.seq) == (value["instance"], value["seq"])
    assert json.loads(decoded.raw_data) == value["data"]
    for name, expected in value["data"].items():
        assert getattr(decoded.data, name) == expected


@pytest.mark.parametrize("event", EVENTS)
def test_every_golden_datagram_shows_every_field_that_our_engines_send(event: str) -> None:
    model: Any = EVENTS[event].model_fields["data"].annotation
    data = json.loads((GOLDEN / f"{event}.json").read_bytes())["data"]
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra or {}
        if field.is_required() or extra.get("always_sent"):
            assert name in data, f"{event} lacks {name}"


@pytest.mark.parametrize("event", EVENTS)
def test_every_required_field_is_required(event: str) -> None:
    model: Any = EVENTS[event].model_fields["data"].annotation
    for name, field in model.model_fields.items():
        value = golden(event)
        value["data"].pop(name, None)
        if field.is_required():
            error = refused(json.dumps(value).encode())
            assert error.reason == "bad_data"
            assert name in error.detail
        else:
            assert getattr(decode(json.dumps(value).encode()).data, name) is None
    for name in ("event", "timestamp", "source", "data"):
        value = golden(event)
        del value[name]
        assert refused(json.dumps(value).encode()).reason == "bad_envelope"


@pytest.mark.parametrize("event", EVENTS)
def test_extra_fields_are_kept(event: str) -> None:
    value = golden(event, later={"a": [1, "ü"]})
    value["more"] = True
    assert json.loads(decode(json.dumps(value).encode()).raw_data)["later"] == {"a": [1, "ü"]}


@pytest.mark.parametrize(
    ("event", "changes", "reason"),
    [
        ("share_submitted", {"difficulty": 0}, "bad_data"),
        ("share_submitted", {"difficulty": -1.5}, "bad_data"),
        ("share_submitted", {"difficulty": "1"}, "bad_data"),
        ("share_submitted", {"difficulty": True}, "bad_data"),
        ("share_submitted", {"share_diff": math.inf}, "bad_data"),
        ("share_submitted", {"share_diff": None}, "bad_data"),
        ("share_submitted", {"nonce": None}, "bad_data"),
        ("share_submitted", {"nonce": "abc"}, "bad_data"),
        ("share_submitted", {"nonce": "zz"}, "bad_data"),
        ("share_submitted", {"nonce": ""}, "bad_data"),
        ("share_submitted", {"hash": "ab"}, "bad_data"),
        ("share_submitted", {"valid": 1}, "bad_data"),
        ("share_submitted", {"valid": False}, "bad_data"),
        ("share_submitted", {"reject_reason": "Stale"}, "bad_data"),
        ("share_submitted", {"ip": "256.1.1.1"}, "bad_data"),
        ("share_submitted", {"ip": "fe80::1%eth0"}, "bad_data"),
        ("share_submitted", {"ip": ""}, "bad_data"),
        ("share_submitted", {"user": ""}, "bad_data"),
        ("share_submitted", {"user": "b" * 91}, "bad_data"),
        ("share_submitted", {"worker": "w" * 129}, "bad_data"),
        ("share_submitted", {"worker": "a\x00b"}, "bad_data"),
        ("share_submitted", {"later": "a\x00b"}, "bad_data"),
        ("share_submitted", {"client_id": -1}, "bad_data"),
        ("share_submitted", {"client_id": 2**63}, "bad_data"),
        ("share_submitted", {"source": "a" * 17}, "bad_envelope"),
        ("share_submitted", {"source": ""}, "bad_envelope"),
        ("share_submitted", {"seq": 0}, "bad_envelope"),
        ("share_submitted", {"seq": 1.0}, "bad_envelope"),
        ("share_submitted", {"timestamp": 1_230_767_999_999_999}, "bad_envelope"),
        ("share_submitted", {"timestamp": 1.5e15}, "bad_envelope"),
        ("share_submitted", {"event": "share"}, "unknown_event"),
        ("share_best_diff", {"period": "year"}, "bad_data"),
        ("share_best_diff", {"week": "2026-W54"}, "bad_data"),
        ("block_found", {"reward_sats": 21_000_000 * 100_000_000 + 1}, "bad_data"),
        ("block_found", {"height": -1}, "bad_data"),
        ("block_found", {"proof": []}, "bad_data"),
        ("block_found", {"proof": {}}, "bad_data"),
        ("block_found", {"proof": proof(header="00" * 79)}, "bad_data"),
        ("block_found", {"proof": proof(header="00" * 81)}, "bad_data"),
        ("block_found", {"proof": proof(header="0g" * 80)}, "bad_data"),
        ("block_found", {"proof": proof(header=None)}, "bad_data"),
        ("block_found", {"proof": proof(coinbase="")}, "bad_data"),
        ("block_found", {"proof": proof(coinbase="abc")}, "bad_data"),
        ("block_found", {"proof": proof(coinbase=" ab ")}, "bad_data"),
        ("block_found", {"proof": proof(coinbase="00" * 1968)}, "bad_data"),
        ("block_found", {"proof": proof(branch=None)}, "bad_data"),
        ("block_found", {"proof": proof(branch="ab" * 32)}, "bad_data"),
        ("block_found", {"proof": proof(branch=["ab" * 31])}, "bad_data"),
        ("block_found", {"proof": proof(branch=["zz" * 32])}, "bad_data"),
        ("block_found", {"proof": proof(branch=[None])}, "bad_data"),
        ("block_found", {"proof": proof(branch=["ab" * 32] * 62)}, "bad_data"),
        ("share_best_diff", {"proof": proof(header="0g" * 80)}, "bad_data"),
        ("hashrate_update", {"hashrate_1m": -1}, "bad_data"),
    ],
)
def test_what_breaks_a_bound_is_refused(event: str, changes: dict[str, Any], reason: str) -> None:
    value = golden(event, **changes)
    if reason == "bad_data" and math.inf in changes.values():
        datagram = json.dumps(value).replace("Infinity", "1e999").encode()
    else:
        datagram = json.dumps(value).encode()
    assert refused(datagram).reason == reason
    with pytest.raises(ValidationError):  # the reference says the same
        EVENTS.get(event, EVENTS["share_submitted"]).model_validate_json(datagram)


DIFFICULTIES = [
    ("share_submitted", "difficulty"),
    ("share_submitted", "share_diff"),
    ("share_submitted", "network_difficulty"),
    ("share_best_diff", "new_best_diff"),
    ("share_best_diff", "previous_best_diff"),
    ("block_found", "difficulty"),
    ("block_found", "network_difficulty"),
    ("miner_connected", "initial_diff"),
    ("miner_disconnected", "best_diff_session"),
    ("diff_updated", "old_diff"),
    ("diff_updated", "new_diff"),
    ("new_block_network", "network_difficulty"),
]
HASHRATES = [
    ("hashrate_update", f"hashrate_{span}") for span in ("1m", "5m", "1h", "24h")
]  # fmt: skip
MAY_BE_ZERO = {"previous_best_diff", "best_diff_session", *(name for _, name in HASHRATES)}


def says(event: str, name: str, value: float) -> bool:
    """Whether both decoders take a value; they must agree."""
    datagram = packed(event, **{name: value})
    try:
        EVENTS[event].model_validate_json(datagram)
    except ValidationError:
        assert name in refused(datagram).detail
        return False
    assert getattr(decode(datagram).data, name) == value
    return True


@pytest.mark.parametrize(("event", "name"), DIFFICULTIES)
def test_a_difficulty_is_one_that_a_hash_can_have(event: str, name: str) -> None:
    for value in (1e-12, 4.66e-10, 1, 2**100, 2**224, 2.0**224):
        assert says(event, name, value)
    for value in (5e-324, 1e-310, 9.99e-13, -1.0, math.nextafter(2.0**224, math.inf), 1.7e308):
        assert not says(event, name, value)
    assert says(event, name, 0) is (name in MAY_BE_ZERO)


@pytest.mark.parametrize(("event", "name"), HASHRATES)
def test_a_hash_rate_is_at_most_a_thousand_times_the_network(event: str, name: str) -> None:
    # Averages that decay come as close to 0 as a double can.
    for value in (0, 0.0, 5e-324, 1e12, 1e24):
        assert says(event, name, value)
    for value in (-1e-300, math.nextafter(1e24, math.inf), 1e300):
        assert not says(event, name, value)


def test_every_number_of_the_contract_has_an_upper_bound_that_its_squares_survive() -> None:
    unbounded = {"session_duration"}  # nothing is computed from it
    for event, model in EVENTS.items():
        data: Any = model.model_fields["data"].annotation
        for name, field in data.model_json_schema()["properties"].items():
            for arm in field.get("anyOf", [field]):
                if arm.get("type") == "number" and name not in unbounded:
                    assert arm["maximum"] <= 2.0**224, f"{event}.{name}"


@pytest.mark.parametrize("event", ["share_best_diff", "block_found"])
def test_a_proof_just_below_its_limit_is_kept_whole(event: str) -> None:
    largest = proof(coinbase="0A" * 1919, later=1)
    data = decode(packed(event, proof=largest)).data
    assert plain(data.proof) == {name: largest[name] for name in ("header", "coinbase", "branch")}
    assert json.loads(decode(packed(event, proof=largest)).raw_data)["proof"] == largest
    assert (
        "proof has 4096 hex digits"
        in refused(packed(event, proof=proof(coinbase="0A" * 1936))).detail
    )
    assert decode(packed(event, proof=None)).data.proof is None


def test_a_wrong_proof_is_refused_with_the_field_that_is_wrong() -> None:
    error = refused(packed("block_found", proof=proof(branch=["ab" * 32, "zz" * 32])))
    assert (error.reason, error.detail) == (
        "bad_data",
        "proof branch Non-hexadecimal digit found",
    )


def test_an_event_that_has_no_proof_of_its_own_keeps_one_as_an_extra() -> None:
    assert decode(packed("share_submitted", proof={"header": 1}))


@pytest.mark.parametrize("event", [name for name in EVENTS if name != "new_block_network"])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        ),
        (
            "TB1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KXPJZSX",
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        ),
        (
            "BCRT1P0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ0Q0VQ4",
            "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq0q0vq4",
        ),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", None),
        ("Bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", None),  # mixed case is no address
        ("BC1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", None),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", None),
        ("1BVBMSEYSTWETQTFN5AU4M4GFG7XJANVN2", None),  # Base58, were it one
        ("BC1", None),
        ("BC1QBIO", None),  # letters that Bech32 does not have
        ("ALICE", None),
    ],
)
def test_bech32_in_upper_case_becomes_lower_case_and_nothing_else_changes(
    event: str, sent: str, kept: str | None
) -> None:
    value = golden(event, user=sent, worker=sent, later=[1.0, 10**30, sent])
    decoded = decode(json.dumps(value).encode())
    assert (decoded.data.user, decoded.data.worker) == (kept or sent, sent)
    assert json.loads(decoded.raw_data) == {**value["data"], "user": kept or sent}
    model: Any = EVENTS[event].model_validate_json(json.dumps(value))
    assert model.data.user == (kept or sent)
    data, raw = decode_data(event, json.dumps(value["data"]).encode())
    assert (data, json.loads(raw)) == (decoded.data, json.loads(decoded.raw_data))


def test_a_timestamp_up_to_one_hour_ahead_is_accepted_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    clock.stand_for_time(monkeypatch, events)
    now = clock.time_ns() // 1000
    assert decode(packed("share_submitted", timestamp=now + HOUR))
    assert refused(packed("share_submitted", timestamp=now + HOUR + 1)).reason == "bad_envelope"


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "not_json"),
        (b"null", "bad_envelope"),
        (b"[]", "bad_envelope"),
        (b"{", "not_json"),
        (b"\xff\xfe", "not_utf8"),
        (packed("share_submitted").replace(b"bitaxe-1", b"\xc3\x28"), "not_utf8"),
        (packed("share_submitted", later="x").replace(b'"x"', b'"\xff"'), "not_utf8"),
        (packed("share_submitted") + b"x", "not_json"),
        (packed("share_submitted") + b"\x00", "not_json"),
        (packed("share_submitted").replace(b"512.0", b"NaN"), "not_json"),
        (b"[" * MAX_DATAGRAM, "bad_envelope"),
        (b'{"a":' * 1600, "not_json"),
        (packed("share_submitted", later="x" * MAX_DATAGRAM), "too_large"),
    ],
)
def test_what_is_no_event_is_refused(datagram: bytes, reason: str) -> None:
    assert refused(datagram).reason == reason


def test_a_rejected_share_may_lack_what_was_never_computed() -> None:
    rejected = {
        "valid": False,
        "reject_reason": "Stale",
        "share_diff": None,
        "job_id": None,
        "nonce": None,
        "nonce2": None,
        "hash": None,
    }
    assert decode(packed("share_submitted", **rejected)).data.reject_reason == "Stale"


def test_a_share_that_solved_nothing_may_carry_a_fraction_of_difficulty_one() -> None:
    assert decode(packed("share_submitted", difficulty=0.001, share_diff=0.0015)).data.difficulty


@pytest.mark.parametrize(
    ("datagram", "identity"),
    [
        (packed("share_submitted", difficulty=0, instance="e/1", seq=7), ("e/1", 7)),
        # Bytes that are no JSON, or no UTF-8, elsewhere.
        (b'{"a":"\xff","instance":"e/1","seq":7}', ("e/1", 7)),
        (b'{"instance":"e/1","seq":7,"data":{"worker":"\xfc"}}', ("e/1", 7)),
        (b'{"a":"\\ud800","instance":"e/1","seq":7}', ("e/1", 7)),
        (b'{"a":NaN,"b":007,"c":1e,"instance":"e/1","seq":7}', ("e/1", 7)),
        (b'{"a":"tab\tand\nline","instance":"e/1","seq":7}', ("e/1", 7)),
        (b'{"instance":"e/1","seq":7,"data":{"user":"b', ("e/1", 7)),
        (b'{"instance":"e/1","seq":7,', ("e/1", 7)),
        (b'{"instance":"e/1","seq":7}trailing', ("e/1", 7)),
        (b'{"instance":"e/1","seq":7}{"instance":"f","seq":8}', ("e/1", 7)),
        (b'\xef\xbb\xbf{ "instance" : "e/1" ,\n"seq" : 7 }', ("e/1", 7)),
        (b'{"instance":"e/\xc3\xbc","seq":7,"a":"\xff"}', ("e/ü", 7)),
        (b'{"in\\u0073tance":"e\\/1","seq":7}', ("e/1", 7)),
        # The last one counts, as for the decoder of events.
        (b'{"instance":"x","seq":6,"instance":"e/1","seq":7}', ("e/1", 7)),
        # What a text holds, and what lies deeper, is not the event's.
        (b'{"a":"\\",\\"seq\\":6,\\"","instance":"e/1","seq":7}', ("e/1", 7)),
        (b'{"data":{"instance":"x","seq":6},"instance":"e/1","seq":7}', ("e/1", 7)),
        (b'{"data":{"instance":"x","seq":6}}', (None, None)),
        (b'{"data":{"a":"b","instance":"x","seq":6', (None, None)),
        (b'{"data":[{"instance":"x","seq":6}],"seq":7}', (None, None)),
        (b'[{"instance":"e/1","seq":7}]', (None, None)),
        (b'["instance":"e/1","seq":7]', (None, None)),
        # A number of the wrong type is still the event's number.
        (b'{"instance":"e/1","seq":7.0}', ("e/1", 7)),
        (b'{"instance":"e/1","seq":"7"}', ("e/1", 7)),
        # A number that may be cut short, and what is no whole number.
        (b'{"instance":"e/1","seq":7', (None, None)),
        (b'{"instance":"e/1","seq":1e3}', (None, None)),
        (b'{"instance":"e/1","seq":7.5}', (None, None)),
        (b'{"instance":"e/1","seq":true}', (None, None)),
        (b'{"instance":"e/1","seq":007}', (None, None)),
        (b'{"instance":"e/1","seq":-7}', (None, None)),
        (b'{"instance":"e/1","seq":0}', (None, None)),
        (b'{"instance":"e/1","seq":"007"}', (None, None)),
        (b'{"instance":"e/1","seq":" 7"}', (None, None)),
        (b'{"instance":"e/1","seq":7 8}', (None, None)),
        (b'{"instance":"e/1" "seq":7}', (None, None)),
        (b'{"instance":"e/1","seq":9007199254740992}', (None, None)),
        # A name that the database cannot hold.
        (b'{"instance":"e/\xfc","seq":7}', (None, None)),
        (b'{"instance":"e/\\ud800","seq":7}', (None, None)),
        (b'{"instance":"a\\u0000b","seq":7}', (None, None)),
        (b'{"instance":"' + b"e" * 129 + b'","seq":7}', (None, None)),
        (b'{"instance":"","seq":7}', (None, None)),
        (b'{"instance":null,"seq":7}', (None, None)),
        (b"", (None, None)),
        (b"{", (None, None)),
        (b"null", (None, None)),
    ],
)
def test_the_identity_of_a_refused_event_is_read_where_it_can_be(
    datagram: bytes, identity: tuple[str | None, int | None]
) -> None:
    assert identify(datagram) == identity


@given(st.binary(max_size=200), st.integers(0, 200))
def test_damage_after_the_identity_hides_it_never(damage: bytes, at: int) -> None:
    whole = packed("share_submitted", instance="e/1", seq=7)
    head = b'{"instance":"e/1","seq":7,' + whole[1:at]
    assert identify(head + damage.replace(b"seq", b"").replace(b"instance", b"")) == ("e/1", 7)


@given(st.text(max_size=140), st.integers(-5, 2**54))
def test_an_event_is_identified_as_it_is_decoded(instance: str, seq: int) -> None:
    datagram = packed("share_submitted", instance=instance, seq=seq)
    try:
        decoded = decode(datagram)
    except Refused:
        assert identify(datagram) == (None, None)
    else:
        assert identify(datagram) == (decoded.instance, decoded.seq)


@pytest.mark.parametrize("part", [b'"', b'\\"', b'"\\', b'{"a":', b"[", b'"a"', b"a:", b"\\"])
def test_no_bytes_take_long_to_look_through(part: bytes) -> None:
    # Reading from each byte to the end again would take minutes.
    assert identify(part * 500_000) == (None, None)


def test_data_of_an_unknown_event_is_refused() -> None:
    with pytest.raises(Refused, match="unknown_event"):
        decode_data("nonsense", b"{}")


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_refused(datagram: bytes) -> None:
    refused(datagram)


# Values as a sender may write them into any field, right or wrong.
_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=140).filter(lambda text: all(not 0xD800 <= ord(c) < 0xE000 for c in text)),
    st.sampled_from(["00", "ab" * 32, "AB", "a b", "week", "2026-W01", "10.0.0.1", "::1", "\x00"]),
    st.sampled_from([proof(), proof(branch=[]), proof(branch=["x"]), proof(later="\x00")]),
    st.fixed_dictionaries(
        {"header": st.just("00" * 80), "coinbase": st.text("0aZ", max_size=4)},
        optional={"branch": st.lists(st.sampled_from(["ab" * 32, "AB" * 32, "ab", ""]))},
    ),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
_FIELDS = sorted({name for event in EVENTS for name in golden(event)["data"]} | {"extra", "proof"})


@settings(max_examples=max(500, settings().max_examples))
@given(
    st.sampled_from(sorted(EVENTS)),
    st.dictionaries(
        st.sampled_from([*_FIELDS, "timestamp", "source", "instance", "seq"]),
        _values,
        min_size=1,
        max_size=3,
    ),
    st.sets(st.sampled_from(_FIELDS), max_size=1),
)
def test_the_fast_decoder_agrees_with_the_models(
    event: str, changes: dict[str, Any], missing: set[str]
) -> None:
    value = golden(event, **changes)
    for name in missing:
        value["data"].pop(name, None)
    datagram = json.dumps(value).encode()
    try:
        reference: Any = EVENTS[event].model_validate_json(datagram)
    except ValidationError:
        refused(datagram)
        return
    decoded = decode(datagram)
    assert (decoded.timestamp, decoded.source) == (reference.timestamp, reference.source)
    assert (decoded.instance, decoded.seq) == (reference.instance, reference.seq)
    for name in type(reference.data).model_fields:
        if name != "proof":
            assert getattr(decoded.data, name) == getattr(reference.data, name)
        elif decoded.data.proof is not None:
            kept = plain(decoded.data.proof)
            assert kept == {key: plain(reference.data.proof)[key] for key in kept}
        else:
            assert reference.data.proof is None
    assert json.loads(decoded.raw_data) == value["data"]
