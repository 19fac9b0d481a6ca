"""``make test-upstream``: upstream's own ckpool, woven, built and run on regtest with a miner.

ckpool/PROOF.md as a program, for a machine with Docker and the internet: the steps of
:mod:`tests.compose.prove_ckpool`, with nothing that stands in. ``MINER`` is the command of a
Stratum miner (sha256d, at least 10 MH/s) that prints a line with "accepted" for each share;
``{url}`` and ``{user}`` in it are filled in.
"""

import json
import os
import shlex
import signal
import ssl
import subprocess
import time
from datetime import UTC, datetime
from typing import Any, Final

import click

from tests.compose.engine import ProofError, run
from tests.compose.project import wait_for
from tests.compose.prove_ckpool import (
    NODE,
    SERVICES,
    SHARES,
    Proof,
    dockerfile_says,
    prove,
)
from tests.processes import ROOT

CKPOOL: Final = ROOT / "ckpool"
USER: Final = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig"
SHARE_SECONDS: Final = 3600.0  # at 10 MH/s a share of difficulty 1 takes seven minutes
STANDS_IN: Final = {"bitcoin-signet": "bitcoin-regtest", "ckpool": "ckpool-regtest"}
MIRRORS: Final = (
    "https://github.com/ckolivas/ckpool.git",
    "https://bitbucket.org/ckolivas/ckpool.git",
)


class UpstreamProof(Proof):
    network = "regtest"
    pool = "ckpool-regtest"
    services = tuple(STANDS_IN.get(name, name) for name in SERVICES)

    def build(self) -> None:
        self.weave()
        self.provide(dockerfile_says("DEBIAN"))
        self.engine.build(NODE, "bitcoin-node/Dockerfile", "bitcoin-node")
        self.build_pool(dockerfile_says("CKPOOL_COMMIT"), [])

    def weave(self) -> None:
        """The report of a dry run, which an issue or PROOF.md may quote."""
        clone = str(self.folder / "clone")
        run([str(CKPOOL / "image/fetch"), dockerfile_says("CKPOOL_COMMIT"), clone, *MIRRORS])
        done = run([str(CKPOOL / "weave"), "--dry-run", clone], check=False)
        click.echo(done.stdout)
        if done.returncode:
            raise ProofError("the rules do not fit upstream")

    def follow_shares(self) -> None:
        """The first share, which is a block: three events with one hash, which the node has."""
        self.mine([""])
        found = [self.first(kind) for kind in ("block_found", "share_best_diff", "share_submitted")]
        if [seq for seq, _ in found] != sorted(seq for seq, _ in found):
            raise ProofError(f"block, best and share came in another order: {found}")
        block = found[0][1]
        told = self.project.execute(
            "bitcoin-regtest",
            *("bitcoin-cli", "-conf=/run/bitcoin/bitcoin.conf", "-datadir=/var/lib/bitcoin"),
            *("getblockhash", str(block["height"])),
        ).strip()
        if {data["hash"] for _, data in found} != {told}:
            raise ProofError(f"the node's block {told} is not that of {found}")
        if f"{block['user']}.{block['worker']}" != USER:
            raise ProofError(f"the block is of {block}")
        self.say(f"block: {told} at height {block['height']}, with its best and its share")

    def first(self, kind: str) -> tuple[int, dict[str, Any]]:
        """The number and the data of the first event of a kind."""
        lines = self.project.redis("xrange", f"mining:{kind}", "-", "+", "count", "1").splitlines()
        if "seq" not in lines:
            raise ProofError(f"no {kind} came")
        return int(lines[lines.index("seq") + 1]), json.loads(lines[lines.index("data") + 1])

    def mine(self, hashes: list[str], tls: ssl.SSLContext | None = None) -> None:  # noqa: ARG002
        """Runs the miner until it had so many shares accepted and they are in the database."""
        url = f"stratum+tcp://127.0.0.1:{self.port}"
        command = shlex.split(os.environ["MINER"].format(url=url, user=USER))
        output = self.folder / "miner.log"

        def accepted() -> int:
            return sum("accepted" in line for line in output.read_text().splitlines())

        with output.open("w") as log:
            miner = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            try:
                wait_for("accepted shares", lambda: accepted() >= len(hashes), SHARE_SECONDS)
            finally:
                os.killpg(miner.pid, signal.SIGTERM)
                miner.wait()
        self.accepted += accepted()
        wait_for("the shares", lambda: self.project.number(SHARES) >= self.accepted, 120)
        # What was accepted on the miner's last moment, and never told to it.
        time.sleep(5)
        self.accepted = self.project.number(SHARES)

    def mine_over_tls(self) -> None:
        """Not here: miners that are at hand speak no TLS."""

    def account(self) -> None:
        super().account()
        digest = run([str(CKPOOL / "weave"), "--digest"]).stdout.strip()
        click.echo(
            "\nThe table of ckpool/PROOF.md:\n\n| | |\n| --- | --- |\n"
            f"| proved on | {datetime.now(UTC).date()} |\n"
            f"| upstream commit | {dockerfile_says('CKPOOL_COMMIT')} |\n"
            f"| digest of our sources | {digest} |\n| by | |"
        )


if __name__ == "__main__":
    if "MINER" not in os.environ:
        raise SystemExit(
            "MINER='minerd -a sha256d -o {url} -u {user} -p x' make test-upstream: which miner?"
        )
    prove(UpstreamProof)
