"""The trees of receipts have the shape of RFC 6962, and the page's program refuses what is forged."""

import copy
import functools
import gzip
import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbg.migrate import sql_folder
from tbg_core.receipts import merkle
from tbg_core.receipts.boot import DoubledError, Spans, Stated, build
from tbg_core.receipts.log import START, BrokenError, Entry, check, parse
from tbg_core.receipts.merkle import (
    Growing,
    audit_path,
    consistency_proof,
    join_hashes,
    leaf_hash,
    root_of,
    split_of,
)
from tbg_core.receipts.node import EMPTY, MOST, Node, difficulty_of, join, node_json, work_of
from tbg_core.receipts.receipt import ReceiptError, hour_of
from tbg_core.receipts.records import (
    DROPPED,
    MISSING,
    REFUSED,
    Boot,
    Share,
    boot_leaf,
    share_leaf,
    share_record,
    statement_leaf,
)
from tests.processes import LIMIT

PAGE = sql_folder().parent / "docs" / "check-your-receipt.md"
NOTHING = Stated([], [], [])

# The leaves, roots, paths and proofs that certificate transparency logs are tested with.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (3, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (2, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
PROOFS = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def plain(count: int) -> list[bytes]:
    return [leaf_hash(data) for data in INPUTS[:count]]


def test_the_tree_without_leaves_is_the_hash_of_nothing() -> None:
    assert root_of([]) == hashlib.sha256(b"").digest() == EMPTY.hash


@pytest.mark.parametrize("count", range(1, 9))
def test_roots_are_those_that_are_published(count: int) -> None:
    assert root_of(plain(count)).hex() == ROOTS[count - 1]


@pytest.mark.parametrize(("leaf", "count"), PATHS)
def test_paths_are_those_that_are_published(leaf: int, count: int) -> None:
    found = audit_path(plain(count), leaf - 1)
    assert [one.hex() for one in found] == PATHS[leaf, count]


@pytest.mark.parametrize(("first", "count"), PROOFS)
def test_consistency_proofs_are_those_that_are_published(first: int, count: int) -> None:
    found = consistency_proof(plain(count), first)
    assert [one.hex() for one in found] == PROOFS[first, count]


# --- sums ---------------------------------------------------------------------------


def reference(leaves: Sequence[Node]) -> Node:
    """The tree by the definition of the RFC, written once more."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return leaves[0]
    split = split_of(len(leaves))
    return join(reference(leaves[:split]), reference(leaves[split:]))


@given(st.integers(0, 70), st.sets(st.integers(0, 69)))
def test_a_growing_tree_is_the_tree_of_the_definition_and_proves_what_is_marked(
    count: int, marked: set[int]
) -> None:
    leaves = [Node(hashlib.sha256(bytes([at])).digest(), at, at % 2) for at in range(count)]
    tree = Growing(join)
    for at, leaf in enumerate(leaves):
        tree.add(leaf, 1, at in marked)
    root, proof = tree.finish() or (EMPTY, [])
    assert root == reference(leaves)
    given_nodes = iter(proof)

    def again(first: int, size: int) -> Node:
        if not any(first <= at < first + size for at in marked):
            return next(given_nodes)
        if size == 1:
            return leaves[first]
        split = split_of(size)
        return join(again(first, split), again(first + split, size - split))

    if count:
        assert again(0, count) == root
        assert next(given_nodes, None) is None


@given(
    st.lists(
        st.floats(1e-12, MOST, allow_nan=False) | st.sampled_from([1e-12, 1.5e-12, MOST]),
        min_size=1,
        max_size=20,
    )
)
def test_sums_of_difficulties_are_exact_in_any_order(difficulties: list[float]) -> None:
    assert sum(map(work_of, difficulties)) == sum(map(work_of, sorted(difficulties)))
    for one in difficulties:
        assert work_of(one) / 2**96 == one  # no bit of it is lost


@pytest.mark.parametrize("absurd", [float("nan"), float("inf"), -1.0, -0.0, 0.0, 1e300, 5e-324])
def test_a_difficulty_that_cannot_be_counts_for_something_that_can(absurd: float) -> None:
    assert 0 <= work_of(absurd) <= work_of(MOST)


def test_no_number_of_shares_overflows_a_sum_and_no_negative_sum_can_be_packed() -> None:
    most = Node(bytes(32), (2**64 - 1) * work_of(MOST), 2**64 - 1)
    assert len(most.packed) == 88
    with pytest.raises(OverflowError):
        _ = Node(bytes(32), -1, 0).packed
    with pytest.raises(OverflowError):
        _ = Node(bytes(32), 1 << 384, 0).packed


def test_the_sums_of_a_node_stand_in_the_hash_above_it() -> None:
    left, right = Node(bytes(32), 5, 1), Node(bytes(32), 7, 2)
    moved = Node(bytes(32), 6, 1), Node(bytes(32), 6, 2)
    assert join(left, right).work == join(*moved).work
    assert join(left, right).hash != join(*moved).hash


# --- records ------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
shares = st.builds(
    Share,
    seq=st.integers(1, 3),
    micros=st.integers(-2, 2),
    user=st.none() | text,
    worker=st.none() | text,
    difficulty=st.sampled_from([1.0, 1.0000000000000002, 2.0]),
    share_diff=st.none() | st.sampled_from([1.0, 3.5]),
    valid=st.booleans(),
    reject_reason=st.none() | text,
    hash=st.none() | st.binary(max_size=3),
    source=text,
)


@given(shares, shares)
@settings(max_examples=400)
def test_two_different_shares_never_have_the_same_bytes(one: Share, other: Share) -> None:
    assert (share_record(one) == share_record(other)) == (one == other)


@given(shares, st.integers(0, 9), text)
def test_a_change_of_one_field_changes_the_leaf(share: Share, field: int, more: str) -> None:
    changed: dict[int, Any] = {
        0: share.seq + 1, 1: share.micros + 1, 2: f"{share.user}{more}x", 3: f"{share.worker}x",
        4: share.difficulty * 2, 5: 9.0, 6: not share.valid, 7: f"{share.reject_reason}x",
        8: (share.hash or b"") + b"x", 9: f"{share.source}x",
    }  # fmt: skip
    other = share._replace(**{Share._fields[field]: changed[field]})
    assert share_leaf(other).hash != share_leaf(share).hash


def test_the_bytes_of_a_share_are_those_of_the_page() -> None:
    share = Share(7, 1763769600000000, "bc1q", "rig", 1.5, None, False, "stale", b"\xab", "hosted")
    assert share_record(share).hex() == (
        "010000000000000007000644239c794000"
        "0100000004" + b"bc1q".hex() + "0100000003" + b"rig".hex() + "3ff8000000000000"
        "00"
        + "00"
        + "0100000005"
        + b"stale".hex()
        + "0100000001ab"
        + "0100000006"
        + b"hosted".hex()
    )
    valid = share._replace(valid=True, reject_reason=None)
    assert share_leaf(valid)[1:] == (3 * 2**95, 1)
    assert share_leaf(share)[1:] == (0, 0)


# --- a boot's numbers ---------------------------------------------------------------


def share(seq: int, user: str = "alice", difficulty: float = 2.0) -> Share:
    return Share(
        seq, 1000 + seq, user, "rig", difficulty, 3.0, True, None, seq.to_bytes(32, "big"), "hosted"
    )


def spread(kinds: dict[int, bytes], kind: bytes) -> Spans:
    return [(seq, seq + 1) for seq in sorted(kinds) if kinds[seq] == kind]


@given(
    st.integers(1, 40),
    st.dictionaries(st.integers(0, 39), st.sampled_from([b"row", REFUSED, DROPPED, MISSING])),
)
def test_every_number_has_its_leaf_whatever_became_of_it(
    first: int, found: dict[int, bytes]
) -> None:
    last = first + max(found, default=0)
    kinds = {seq: found.get(seq - first, MISSING) for seq in range(first, last + 1)}
    rows = [share(seq) for seq, kind in kinds.items() if kind == b"row"]
    stated = Stated(spread(kinds, REFUSED), spread(kinds, DROPPED), [])
    built = build(first, last, rows, stated)
    leaves = [
        share_leaf(share(seq)) if kind == b"row" else statement_leaf(kind)
        for seq, kind in kinds.items()
    ]
    assert built.root == reference(leaves)
    said = {
        seq: kind
        for kind, spans in zip((REFUSED, DROPPED, MISSING), built.stated, strict=True)
        for start, end in spans
        for seq in range(start, end)
    }
    assert said == {seq: kind for seq, kind in kinds.items() if kind != b"row"}
    # With rows that have come since, the tree that was published can still be built.
    late = [share(seq) for seq in kinds]
    assert build(first, last, late, built.stated, again=True).root == built.root
    assert build(first, last, late, built.stated).stated == NOTHING


def test_a_hole_of_a_quadrillion_numbers_is_no_work() -> None:
    rows = [share(3), share(2**53 - 1)]
    built = build(1, 2**53 - 1, rows, NOTHING, marks=lambda one: one.seq == 3)
    assert built.stated.missing == [(1, 3), (4, 2**53 - 1)]
    assert len(built.proof) < 60


def test_what_said_nothing_about_a_number_that_has_no_row_says_that_it_is_missing() -> None:
    whole = build(1, 3, [share(1), share(2), share(3)], NOTHING)
    assert build(1, 3, [share(1), share(3)], NOTHING, again=True).root != whole.root


@pytest.mark.parametrize("seqs", [[1, 1], [2, 1], [4], [0]])
def test_two_rows_of_one_number_and_numbers_of_another_hour_make_no_tree(seqs: list[int]) -> None:
    with pytest.raises(DoubledError):
        build(1, 3, map(share, seqs), NOTHING)


def test_a_boot_without_numbers_in_an_hour_has_the_empty_tree() -> None:
    assert build(5, 4, [], NOTHING).root == EMPTY


# --- the log and the page's program -------------------------------------------------


def logged(hours: Sequence[tuple[int, Sequence[Boot]]]) -> list[Entry]:
    """A log with these hours; one that comes again is a new revision."""
    entries: list[Entry] = []
    for hour, boots in hours:
        revision = 1 + sum(entry.hour == hour for entry in entries)
        tree = Growing(join)
        for boot in boots:
            tree.add(boot_leaf(boot))
        root, _ = tree.finish() or (EMPTY, [])
        previous = entries[-1].hash if entries else START
        entries.append(Entry(len(entries), hour, revision, len(boots), root, "", previous))
    return entries


def test_a_log_that_was_changed_anywhere_is_broken() -> None:
    entries = logged([(hour, [Boot("a/1", hour + 1, hour + 1, EMPTY)]) for hour in range(5)])
    check(entries)
    assert [parse(json.loads(json.dumps(entry.as_json()))) for entry in entries] == entries
    for wrong in (
        entries[1:],
        entries[:2] + entries[3:],
        [entries[1], entries[0], *entries[2:]],
        [entries[0], entries[1]._replace(revision=2), *entries[2:]],
    ):
        with pytest.raises(BrokenError):
            check(wrong)


@pytest.mark.parametrize(
    "change",
    [{"root": ["00" * 32, "0", 0]}, {"hour": "0"}, {"hash": "00"}, {"boots": -1}, {"reason": None}],
)
def test_what_is_no_entry_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BrokenError):
        parse(logged([(0, [])])[0].as_json() | change)


def program() -> str:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def pool() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A published log of three hours of two boots, and the receipt of alice."""
    lines, hours = [], []
    built = {}
    for hour in range(3):
        for boot in range(2):
            first = 1 + 20 * hour
            rows = [
                share(
                    seq, "alice" if seq % (3 + boot) == 0 else "bob", 1000.0 * (1 + seq % 3)
                )._replace(valid=seq % 9 != 0, reject_reason=None if seq % 9 else "stale")
                for seq in range(first, first + 20)
                if seq % 7
            ]
            built[hour, boot] = build(
                first, first + 19, rows, NOTHING, marks=lambda one: one.user == "alice"
            )
    boots = {
        hour: [
            Boot(f"pool{boot}/1", 1 + 20 * hour, 20 + 20 * hour, built[hour, boot].root)
            for boot in range(2)
        ]
        for hour in range(3)
    }
    entries = logged([(hour * 3_600_000_000, boots[hour]) for hour in range(3)])
    lines = [entry.as_json() for entry in entries]
    hours = [
        hour_of(entries[hour], boots[hour], {boot: built[hour, boot] for boot in range(2)})
        for hour in range(3)
    ]
    mine = [share_leaf(one) for tree in built.values() for one in tree.marked]
    made = {
        "user": "alice",
        "from": 0,
        "to": 10_000,
        "shares": len(mine),
        "valid": sum(leaf.valid for leaf in mine),
        "work": str(sum(leaf.work for leaf in mine)),
        "difficulty": difficulty_of(sum(leaf.work for leaf in mine)),
        "hours": hours,
    }
    return lines, json.loads(json.dumps(made))


def written(
    folder: Path, lines: Sequence[dict[str, Any]], made: dict[str, Any]
) -> tuple[Path, Path]:
    receipt, roots = folder / "receipt.json.gz", folder / "roots.jsonl"
    receipt.write_bytes(gzip.compress(json.dumps(made).encode(), 1))
    roots.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return receipt, roots


def checked(receipt: Path, roots: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs the page's program on files, without any package."""
    code = receipt.with_name("check.py")
    code.write_text(program())
    return subprocess.run(
        [sys.executable, "-I", "-S", "-O", str(code), str(receipt), str(roots), *more],
        cwd=receipt.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


@pytest.fixture(scope="module")
def accepts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Sequence[dict[str, Any]], dict[str, Any]], bool]:
    """Runs the program in this process, for many files."""
    folder = tmp_path_factory.mktemp("receipts")
    code = compile(program(), "check.py", "exec")

    def run(lines: Sequence[dict[str, Any]], made: dict[str, Any]) -> bool:
        before = sys.argv
        sys.argv = ["check.py", *map(str, written(folder, lines, made))]
        try:
            exec(code, {"print": lambda *_: None})  # noqa: S102  # the page's program
        except SystemExit as end:
            return not isinstance(end.code, str)  # a number may be the exit code 0
        except Exception:  # a traceback, and the exit code 1
            return False
        else:
            return True
        finally:
            sys.argv = before

    return run


Accepts = Callable[[Sequence[dict[str, Any]], dict[str, Any]], bool]


def test_the_program_is_short_and_needs_nothing() -> None:
    assert len(program().splitlines()) <= 40
    assert max(map(len, program().splitlines())) <= 100
    imported = re.findall(r"^(?:import|from) (.*)", program(), re.MULTILINE)
    assert imported == ["gzip, hashlib, json, struct, sys"]
    assert "assert" not in program()  # python -O leaves them out


def test_an_honest_receipt_is_accepted_and_says_what_it_proves(tmp_path: Path) -> None:
    lines, made = pool()
    done = checked(*written(tmp_path, lines, made), lines[1]["hash"])
    assert done.returncode == 0, done.stderr
    assert f"alice: {made['valid']} valid shares of {made['shares']}" in done.stdout
    assert lines[-1]["hash"] in done.stdout
    assert checked(*written(tmp_path, lines, made), "00" * 32).returncode == 1


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all numbers, texts and nulls of a JSON value."""
    if isinstance(value, dict):
        return [one for name in value for one in leaves_of(value[name], (*path, name))]
    if isinstance(value, list):
        return [one for at, item in enumerate(value) for one in leaves_of(item, (*path, at))]
    return [path]


def changed(value: Any, number: int) -> list[Any]:
    """Values that another one may be forged into."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, -value - 1, value + 2**64, -(2**70)]
    if isinstance(value, float):
        return [value * 2, value + 1, -value, 0.5]
    if isinstance(value, str):
        if re.fullmatch("[0-9]+", value):  # work
            return [
                str(int(value) + 1),
                f"-{int(value) + 1}",
                str(1 << 384),
                str(int(value) + 2**96),
            ]
        if re.fullmatch("[0-9a-f]{64}", value):
            at = number % 64
            return [f"{value[:at]}{(int(value[at], 16) + 1) % 16:x}{value[at + 1 :]}", value[:-2]]
        return [f"{value}x", value[1:]] if value else ["x"]
    return ["x", 1.5]


FREE = {"from", "to"}  # any span that holds the shares is as good


@given(st.data())
@settings(max_examples=300)
def test_no_value_of_a_receipt_can_be_changed(accepts: Accepts, data: st.DataObject) -> None:
    lines, made = pool()
    path = data.draw(st.sampled_from([path for path in leaves_of(made) if path[0] not in FREE]))
    place = made
    for step in path[:-1]:
        place = place[step]
    forged = data.draw(st.sampled_from(changed(place[path[-1]], data.draw(st.integers(0, 63)))))
    place[path[-1]] = forged
    assert not accepts(lines, made)


@given(st.data())
@settings(max_examples=150)
def test_no_value_of_the_log_can_be_changed(accepts: Accepts, data: st.DataObject) -> None:
    lines, made = pool()
    path = data.draw(st.sampled_from(leaves_of(lines)))
    place: Any = lines
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = data.draw(st.sampled_from(changed(place[path[-1]], 7)))
    assert not accepts(lines, made)


@given(st.integers(0, 2), st.sampled_from(["removed", "doubled", "newer"]))
def test_no_entry_of_the_log_can_be_left_out_or_added(accepts: Accepts, at: int, how: str) -> None:
    lines, made = pool()
    if how == "removed":
        del lines[at]
    elif how == "doubled":
        lines.insert(at, copy.deepcopy(lines[at]))
    else:  # the hour has another revision by now: this receipt is of the past
        entries = [parse(line) for line in lines]
        newer = entries[at]._replace(place=3, revision=2, previous=entries[-1].hash)
        lines.append(newer.as_json())
    assert not accepts(lines, made)


@given(st.data(), st.sampled_from(["removed", "doubled", "swapped", "moved"]), st.booleans())
@settings(max_examples=150)
def test_no_share_can_be_left_out_added_or_reordered(
    accepts: Accepts, data: st.DataObject, how: str, honest_sums: bool
) -> None:
    lines, made = pool()
    tree = data.draw(st.sampled_from([tree for hour in made["hours"] for tree in hour["trees"]]))
    rows = tree["shares"]
    at, other = data.draw(
        st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True)
    )
    if how == "removed":
        del rows[at]
    elif how == "doubled":
        rows.append(list(rows[at]))
        if honest_sums:
            rows[-1][0] = rows[at][0] + 1
    elif how == "swapped":
        rows[at][0], rows[other][0] = rows[other][0], rows[at][0]
    else:
        rows[at][0] += 1
    every = [row for hour in made["hours"] for tree in hour["trees"] for row in tree["shares"]]
    if honest_sums:
        made["shares"] = len(every)
        made["valid"] = sum(row[5] for row in every)
        made["work"] = str(sum(work_of(row[3]) * row[5] for row in every))
    assert not accepts(lines, made)


@given(st.data(), st.sampled_from(["removed", "doubled", "swapped"]))
def test_no_node_can_be_left_out_added_or_moved(
    accepts: Accepts, data: st.DataObject, how: str
) -> None:
    lines, made = pool()
    places = [tree["nodes"] for hour in made["hours"] for tree in hour["trees"]]
    nodes = data.draw(st.sampled_from(places))
    at = data.draw(st.integers(0, len(nodes) - 2))
    if how == "removed":
        del nodes[at]
    elif how == "doubled":
        nodes.insert(at, nodes[at])
    else:
        nodes[at], nodes[at + 1] = nodes[at + 1], nodes[at]
    assert not accepts(lines, made)


def first_tree(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["hours"][0]["trees"][0]
    return found


FORGERIES: dict[str, Callable[[list[dict[str, Any]], dict[str, Any]], object]] = {
    "a node at the end of a tree": lambda _, made: first_tree(made)["nodes"].append(
        first_tree(made)["nodes"][0]
    ),
    "a node at the end of an hour": lambda _, made: made["hours"][0]["nodes"].append(
        first_tree(made)["nodes"][0]
    ),
    "an hour again": lambda _, made: made["hours"].append(made["hours"][0]),
    "an hour again, without its shares": lambda lines, made: made["hours"].append(
        {"entry": 0, "nodes": [lines[0]["root"]], "trees": []}
    ),
    "an hour from the end": lambda _, made: made["hours"][2].update(entry=-1),
    "a tree again": lambda _, made: made["hours"][0]["trees"].append(first_tree(made)),
    "a tree at the place of another": lambda _, made: made["hours"][0]["trees"].reverse(),
    "shares in another order": lambda _, made: first_tree(made)["shares"].reverse(),
    "a hash with a blank": lambda _, made: put(made, 7, lambda found: f"{found} "),
    "a shorter hash with blanks": lambda _, made: put(made, 7, lambda found: f"{found[:-2]}  "),
    "a hash in upper case": lambda _, made: put(made, 7, lambda _: "AB" * 32),
    "no hash": lambda _, made: put(made, 7, lambda _: None),
    "an empty hash": lambda _, made: put(made, 7, lambda _: ""),
    "a hash of an odd length": lambda _, made: put(made, 7, lambda found: found[1:]),
    "difficulty that is no number": lambda _, made: put(made, 3, lambda _: math.nan),
    "endless difficulty": lambda _, made: put(made, 3, lambda _: math.inf),
    "a share that is valid twice": lambda _, made: put(made, 5, lambda _: 2),
    "a number as a fraction": lambda _, made: put(made, 0, lambda seq: seq + 0.5),
    "a sum that is no number": lambda _, made: made.update(valid=math.nan),
    "difficulty of the whole": lambda _, made: made.update(difficulty=made["difficulty"] + 1),
    "difficulty of an hour": lambda lines, _: lines[0].update(difficulty=1.0),
    "a longer node": lambda _, made: node(made, 0, lambda found: f"{found}00"),
    "a node in upper case": lambda _, made: node(made, 0, str.upper),
    "a negative node": lambda _, made: node(made, 0, lambda found: f"-{found[1:]}"),
    "work with a blank": lambda _, made: node(made, 1, lambda work: f" {work}"),
    "half a share": lambda _, made: node(made, 2, lambda valid: valid + 0.5),
    "nesting without end": lambda _, made: made.update(
        hours=functools.reduce(lambda inner, _: [inner], range(900), made["hours"])
    ),
}


def put(made: dict[str, Any], field: int, change: Callable[[Any], object]) -> None:
    row = first_tree(made)["shares"][0]
    row[field] = change(row[field])


def node(made: dict[str, Any], field: int, change: Callable[[Any], object]) -> None:
    found = first_tree(made)["nodes"][0]
    found[field] = change(found[field])


@pytest.mark.parametrize("how", FORGERIES)
def test_what_is_written_otherwise_than_an_honest_receipt_is_refused(
    accepts: Accepts, how: str
) -> None:
    lines, made = pool()
    FORGERIES[how](lines, made)
    assert not accepts(lines, made)


def test_a_refusal_ends_with_1_whatever_number_is_wrong(tmp_path: Path) -> None:
    # An exit code is a number below 256: that of a share must not become one.
    row = share(256)
    tree = build(256, 256, [row], NOTHING, marks=lambda _: True)
    boots = [Boot("pool/1", 256, 256, tree.root)]
    [entry] = logged([(0, boots)])
    hour = hour_of(entry, boots, {0: tree})
    made = {"user": "alice", "from": 0, "to": 1, "shares": 1, "valid": 1, "hours": [hour]}
    work = work_of(row.difficulty)
    made |= {"work": str(work), "difficulty": difficulty_of(work)}
    lines = [entry.as_json()]
    done = checked(*written(tmp_path, lines, made))
    assert (done.returncode, done.stdout) == (1, "")  # its time is not of the span
    assert checked(*written(tmp_path, lines, made | {"to": 2000})).returncode == 0


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"hours":' * 100_000])
def test_text_that_is_nested_without_end_is_refused(tmp_path: Path, deep: str) -> None:
    lines, made = pool()
    receipt, roots = written(tmp_path, lines, made)
    receipt.write_bytes(gzip.compress(deep.encode()))
    assert checked(receipt, roots).returncode == 1


def test_a_name_cannot_say_what_is_not_proved(tmp_path: Path) -> None:
    lines, made = pool()
    name = "alice: 9 valid shares of 9\n\x1b[8m"
    made |= {"user": name, "hours": [], "shares": 0, "valid": 0, "work": "0", "difficulty": 0.0}
    said = checked(*written(tmp_path, lines, made)).stdout
    assert said.startswith(r"alice:_9_valid_shares_of_9\n\x1b[8m: 0 valid shares of 0")
    assert len(said.splitlines()) == 1


def test_sums_that_cancel_each_other_out_are_refused(accepts: Accepts) -> None:
    lines, made = pool()
    assert accepts(lines, made)
    [one, other, *_] = made["hours"][0]["trees"][0]["nodes"]
    one[1], other[1] = str(int(one[1]) + 2**200), str(int(other[1]) - 2**200)
    assert not accepts(lines, made)


def test_a_statement_without_shares_leads_to_the_same_roots(accepts: Accepts) -> None:
    lines, made = pool()
    entries = [parse(line) for line in lines]
    tree = build(1, 3, [share(1), share(2), share(3)], NOTHING, marks=lambda _: True)
    boots = [Boot("pool/1", 1, 3, tree.root)]
    entries = logged([(0, boots)])
    hour = hour_of(entries[0], boots, {0: tree}, sums=True)
    assert hour["trees"][0]["said"] == {"shares": 3, "valid": 3, "work": str(3 * work_of(2.0))}
    assert hour["trees"][0]["nodes"] == [node_json(tree.root)]
    made |= {"hours": [hour], "shares": 0, "valid": 0, "work": "0", "difficulty": 0}
    assert accepts([entries[0].as_json()], made)
    hour["trees"][0]["nodes"][0][1] = "1"
    assert not accepts([entries[0].as_json()], made)


def test_a_root_that_is_not_published_gives_no_receipt() -> None:
    tree = build(1, 1, [share(1)], NOTHING)
    [entry] = logged([(0, [Boot("pool/1", 1, 1, tree.root)])])
    with pytest.raises(ReceiptError, match="do not give the root"):
        hour_of(entry, [Boot("pool/2", 1, 1, tree.root)], {0: tree})


def test_a_consistency_proof_of_the_log_needs_a_beginning() -> None:
    for first in (0, 3):
        with pytest.raises(IndexError):
            consistency_proof(plain(2), first)
    with pytest.raises(IndexError):
        audit_path(plain(2), 2)


def test_the_shape_is_the_same_for_hashes_and_for_sums() -> None:
    tree: Growing[bytes] = Growing(join_hashes)
    for leaf in plain(7):
        tree.add(leaf)
    done = tree.finish()
    assert done is not None
    assert done[0] == merkle.root_of(plain(7))
