"""``tbg verify``: checks bests and blocks by their proof of work."""

import json
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import click

from tbg import outputs
from tbg.options import Parsed
from tbg.servers import connect, database_url
from tbg.stack.state import State, state_option
from tbg.terminal import terminal
from tbg_core import evidence
from tbg_core.events import canonical_address
from tbg_core.evidence import Case
from tbg_core.periods import midnight, monday_of
from tbg_core.proof import SIGNATURE, Claim, Proof, ProofError, holds, signatures_of, verify
from tbg_core.wording import printable

SHORTEST: Final = 8  # hex digits, of the end of a hash
MARKS = {True: "holds", False: "FAILS", None: "not checked"}


def _hash(text: str) -> str:
    if not re.fullmatch(f"[0-9a-fA-F]{{{SHORTEST},64}}", text):
        raise ValueError
    return text


def _signature(text: str) -> str:
    if not signatures_of(text):
        raise ValueError
    return text


signature_option: Final = click.option(
    "--signature",
    type=Parsed(_signature, "be a text in the pool's coinbases"),
    default=SIGNATURE,
    show_default=True,
    envvar="TBG_COINBASE_SIGNATURE",
    show_envvar=True,
    help="The pool's signature in its coinbases, or several between commas.",
)
HASH = Parsed(
    _hash, f"be the 64 hex digits of a share's hash, or its last ones ({SHORTEST} or more)"
)
WEEK = Parsed(monday_of, "look like 2026-W47")


@click.command("verify")
@click.argument("share_hash", metavar="[HASH]", required=False, type=HASH)
@click.option("--week", "monday", type=WEEK, help="The first ten of a week, as 2026-W47.")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What --json wrote, or an event with a proof.",
)
@signature_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, proof included.")
@state_option
def command(
    share_hash: str | None,
    monday: date | None,
    path: Path | None,
    signature: str,
    as_json: bool,
    state_path: Path,
) -> None:
    """Check a best or a block by its proof of work, and trust nothing else.

    Exits 0 only if everything holds, 3 if anything fails or there is no proof. A file needs
    no database: without one, the block before the share is not checked, which does not fail.

    \b
    Examples:
      tbg verify 00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b
      tbg verify d5e6f708192a3b            # its end is enough
      tbg verify --week 2026-W47
      tbg verify HASH --json > proof.json
      tbg verify --file proof.json
    """
    if sum(item is not None for item in (share_hash, monday, path)) != 1:
        raise click.UsageError("name one of HASH, --week and --file")
    if path is not None:
        cases = _of_file(path, signature, State(state_path))
    else:
        cases = _of_database(State(state_path), share_hash, monday, signature)
    if as_json:
        for case in cases:
            outputs.show_line(outputs.Verified, document(case))
    else:
        for claims in _together(cases):
            _show(claims)
    # The claim is ours and the database is, too: what it cannot check does not hold.
    if not all(case.proof and holds(case.facts, unchecked=path is not None) for case in cases):
        raise SystemExit(3)


def document(case: Case) -> dict[str, Any]:
    """A case as JSON has it, which :func:`read` reads."""
    claim = case.claim
    return {
        "hash": claim.hash,
        "user": claim.user,
        "worker": case.worker,
        "difficulty": claim.difficulty,
        "time": claim.time and claim.time.astimezone(UTC).isoformat(),
        "week": claim.week and f"{claim.week:%G-W%V}",
        "rank": case.rank,
        "signature": claim.signature
        if isinstance(claim.signature, str)
        else ",".join(claim.signature),
        **({"kept": True} if claim.kept else {}),
        "proof": case.proof and case.proof.dump(),
        "facts": [
            {"name": fact.name, "holds": fact.holds, "text": fact.text} for fact in case.facts
        ],
    }


def read(value: Any, signature: str) -> tuple[Claim, Proof]:
    """The claim and the proof in what :func:`document` made, or in an event.

    Raises:
        ProofError: there is none; the text says what is wrong.
    """
    if isinstance(value, dict) and isinstance(value.get("data"), dict):
        value = {"time": value.get("timestamp"), **value["data"]}
        value["difficulty"] = value.get("new_best_diff", value.get("difficulty"))
    if not isinstance(value, dict):
        raise ProofError("there is no JSON object with a claim and its proof")
    if value.get("proof") is None:
        raise ProofError("there is no proof in it")
    user, difficulty, moment, week = (
        value.get(name) for name in ("user", "difficulty", "time", "week")
    )
    if not isinstance(user, str) or not isinstance(value.get("hash"), str):
        raise ProofError("user and hash are not both texts")
    if not isinstance(difficulty, int | float) or not difficulty > 0:
        raise ProofError("difficulty is not a number above 0")
    tag = value.get("tag")
    if not isinstance(tag, str | None) or not isinstance(value.get("signature"), str | None):
        raise ProofError("signature and tag are not both texts")
    try:
        if isinstance(moment, int):
            moment = datetime.fromtimestamp(moment / 1e6, UTC)
        elif moment is not None:
            moment = datetime.fromisoformat(moment)
            if moment.tzinfo is None:
                raise ProofError(f"the time {moment} names no time zone")
        monday = week and midnight(monday_of(week))
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ProofError(f"time or week is wrong: {error}") from None
    return (
        Claim(
            hash=value["hash"],
            user=canonical_address(user),
            difficulty=difficulty,
            time=moment,
            week=monday,
            # Not the file's own: the author of the claim also wrote the file.
            signature=signatures_of(signature),
            tag=tag,
            kept=value.get("kept") is True,
        ),
        Proof.read(value["proof"]),
    )


def _of_file(path: Path, signature: str, state: State) -> list[Case]:
    try:
        text = path.read_text("utf-8")
        try:
            values = [_decode(text)]
        except ValueError:
            values = [_decode(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise click.ClickException(f"{path} is not JSON: {error}") from error
    if not values:
        raise click.ClickException(f"{path} is empty")
    cases = []
    for value in values:
        try:
            claim, proof = read(value, signature)
        except ProofError as error:
            raise click.ClickException(f"{path}: {error}") from error
        worker, rank = value.get("worker", ""), value.get("rank")
        cases.append(Case(claim, worker, rank, proof, verify(proof, claim, _tips(state, proof))))
    return cases


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose names stands twice: it would say two things."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in it")
    return found


_decode: Final = json.JSONDecoder(object_pairs_hook=_once).decode


def _tips(state: State, proof: Proof) -> Any:
    """The tips of a database that answers, if there is one."""
    with suppress(click.ClickException), connect(database_url(state)) as database:
        return evidence.tips_for(database, proof)
    return None


def _of_database(
    state: State, share_hash: str | None, monday: date | None, signature: str
) -> list[Case]:
    with connect(database_url(state)) as database:
        if share_hash is not None:
            share_hash = _whole(database, share_hash)
            cases = evidence.cases_of_hash(database, share_hash, signature)
        else:
            assert monday is not None
            cases = evidence.cases_of_week(database, monday, signature)
    if not cases:
        raise click.ClickException(
            f"nobody claims {share_hash}: it is neither a week's best nor a block, and has no proof"
            if share_hash
            else f"nobody has a best in the week of {monday}"
        )
    return cases


def _whole(database: Any, end: str) -> str:
    """The hash that ends so, of a share that anybody claims; ``end`` itself if there is none."""
    if len(end) == 64:
        return end
    found = evidence.hashes_ending(database, end)
    if len(found) > 1:
        raise click.ClickException(
            f"several shares end in {end}, as {found[0]} and {found[1]}: give more digits"
        )
    return found[0] if found else end


def _together(cases: list[Case]) -> list[list[Case]]:
    """The claims of a user to each share, in the order of the first ones."""
    found: dict[object, list[Case]] = {}
    for case in cases:
        # Without a hash nothing says that two are the same share.
        found.setdefault((case.claim.hash or id(case), case.claim.user), []).append(case)
    return list(found.values())


def _show(cases: list[Case]) -> None:
    """Every claim to a share, and below them what its proof says, once."""
    console = terminal(markup=False, emoji=False, soft_wrap=True)
    for case in cases:
        claim = case.claim
        place = f"{case.rank}. " if case.rank else ""
        of = f" in {claim.week:%G-W%V}" if claim.week else ""
        name = f"{claim.user}.{case.worker}" if case.worker else claim.user
        said = f"{place}{name}: {claim.difficulty:.12g}{of}, share {claim.hash or 'unknown'}"
        console.print(printable(said))
    if cases[0].proof is None:
        console.print("  no proof came with it")
    facts = {(fact.name, fact.holds, fact.text): fact for case in cases for fact in case.facts}
    for fact in facts.values():
        style = {True: "green", False: "red", None: "yellow"}[fact.holds]
        console.print(
            f"  {MARKS[fact.holds]:<11}  {fact.name}: {printable(fact.text)}", style=style
        )
