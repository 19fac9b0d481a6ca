#!/usr/bin/env python3
# Part of The Bitcoin Game's ckpool fork.
# Copyright (C) 2026 The Bitcoin Game
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes the rules and the C module, one thing at a time, and looks whether the tests
notice: those that a change names, up to the first that fails. A change that no test
notices is a hole in the tests.

Each runs in a copy of this folder. To be quick, what did not change is compiled once, without
a sanitizer; a test ends at its first failure; and more run at a time than there are
processors, as most of them wait.
"""

import argparse
import concurrent.futures
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CKPOOL = Path(__file__).resolve().parent.parent
COMPILE = ["gcc", "-std=gnu11", "-O0", "-w"]
LIMIT = 240  # seconds for one test: one that hangs has noticed
SLOW = ("test_boot", "test_disk", "test_rare")  # they wait longest, and come first


@dataclass(frozen=True)
class Mutant:
    """One change: what it breaks, in which file, and the tests that must notice."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def rule(what: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(what, f"rules/{file}.cocci", old, new, ("play",))


def source(what: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(what, f"src/tbg_{file}", old, new, tests)


SHARES, MINERS, NETWORK = "20-shares", "30-miners", "40-network"
WORKER, USER = ".workername = client->workername,", ".workername = user->username,"

MUTANTS = (
    # The rules: what each hook says.
    rule("worker missing on shares", SHARES, f"+\t{WORKER}\n+\t.diff = diff,\n+\t.share_diff", f"+\t{USER}\n+\t.diff = diff,\n+\t.share_diff"),
    rule("worker missing on malformed shares", SHARES, f"+\t\t{WORKER}", f"+\t\t{USER}"),
    rule("worker missing on shares before work", SHARES, f"tbg_share_submitted(&client->tbg, &(struct tbg_share){{\n+\t.user = user->username,\n+\t{WORKER}\n+\t.diff = diff,\n+\t.reject", f"tbg_share_submitted(&client->tbg, &(struct tbg_share){{\n+\t.user = user->username,\n+\t{USER}\n+\t.diff = diff,\n+\t.reject"),
    rule("address and agent swapped on shares", SHARES, ".ip = client->address,\n+\t.user_agent = client->useragent,\n+\t.client_id = client->id,\n+\t.version", ".ip = client->useragent,\n+\t.user_agent = client->address,\n+\t.client_id = client->id,\n+\t.version"),
    rule("wrong client id on shares", SHARES, ".client_id = client->id,\n+\t.version", ".client_id = client->diff,\n+\t.version"),
    rule("assigned for achieved", SHARES, "+\t.share_diff = sdiff,", "+\t.share_diff = diff,"),
    rule("the new difficulty for the one mined for", SHARES, "+\t.diff = diff,\n+\t.share_diff", "+\t.diff = client->diff,\n+\t.share_diff"),
    rule("ntime and nonce2 swapped", SHARES, "+\t.nonce2 = nonce2,\n+\t.ntime = ntime,", "+\t.nonce2 = ntime,\n+\t.ntime = nonce2,"),
    rule("no version bits", SHARES, "version_mask32", "0"),
    rule("no network difficulty on shares", SHARES, "sdata->stats.network_diff", "0"),
    rule("every share valid", SHARES, ".valid = result", ".valid = true"),
    rule("job id left out", SHARES, "+\t.job_id = job_id,\n", ""),
    rule("hash left out", SHARES, "+\t.hash = hexhash,\n", ""),
    rule("the reason left out", SHARES, "+\t.reject_reason = SHARE_ERR(err),\n+\t.job_id", "+\t.job_id"),
    rule("wrong worker on bests", SHARES, "user->username, client->workername, sdiff", "user->username, user->username, sdiff"),
    rule("bests from rejected shares", SHARES, "+if (result)\n+\ttbg_share_accepted", "+if (result || sdiff > 0)\n+\ttbg_share_accepted"),
    rule("bests by the assigned difficulty", SHARES, "client->workername, sdiff, hexhash", "client->workername, diff, hexhash"),
    rule("short nonces not filled up", SHARES, "nonce = tbg_padded_nonce(nonce, alloca(9));", "nonce = tbg_padded_nonce(nonce, alloca(9)) ? nonce : nonce;"),
    rule("the header with swapped bytes", SHARES, "hash, swap,", "hash, (uchar *)data,"),
    rule("no merkle branch", SHARES, "wb->merkles)", "0)"),
    rule("wrong worker on connects", MINERS, f"+\t\t{WORKER}\n+\t\t.ip = client->address,\n+\t\t.user_agent", f"+\t\t{USER}\n+\t\t.ip = client->address,\n+\t\t.user_agent"),
    rule("remote miners connect", MINERS, "+if (!client->remote)\n", "+if (client)\n"),
    rule("remote miners disconnect", MINERS, " && !client->remote)", ")"),
    rule("strangers disconnect", MINERS, "+if (client->authorised && client->workername", "+if (client->workername"),
    rule("ckpool's best not known", MINERS, "+\t\t.best_ever = user->best_ever,\n", ""),
    rule("the session does not remember it", MINERS, "+\t\t.session = &client->tbg,\n", ""),
    rule("initial difficulty of another field", MINERS, ".diff = client->diff,\n+\t\t.best", ".diff = client->old_diff,\n+\t\t.best"),
    rule("no agent on connects", MINERS, "+\t\t.user_agent = client->useragent,\n", ""),
    rule("another protocol", MINERS, "stratum_v1", "stratum_v2"),
    rule("the session began now", MINERS, "client->start_time * 1000000LL", "time(NULL) * 1000000LL"),
    rule("no reason on disconnects", MINERS, "tbg_reason_gone(client->reject, client->idle)", "NULL"),
    rule("vardiff with the wrong worker", MINERS, f"+\t{WORKER}\n+\t.reason = \"vardiff\"", f"+\t{USER}\n+\t.reason = \"vardiff\""),
    rule("vardiff from the new difficulty", MINERS, ".reason = \"vardiff\",\n+\t.client_id = client->id,\n+\t.old_diff = client->diff", ".reason = \"vardiff\",\n+\t.client_id = client->id,\n+\t.old_diff = d"),
    rule("suggest without a client id", MINERS, ".reason = \"suggest\",\n+\t.client_id = client->id,", ".reason = \"suggest\",\n+\t.client_id = 0,"),
    rule("mindiff says suggest", MINERS, "mindiff\",", "suggest\","),
    rule("wrong worker on blocks", NETWORK, f"{WORKER}\n+\t.hash_words", ".workername = client->user_instance->username,\n+\t.hash_words"),
    rule("halvings of another chain", NETWORK, "tbg_halving_of(ckpool.regtest)", "tbg_halving_of(!ckpool.regtest)"),
    rule("the height of the block before", NETWORK, "+\t.height = wb->height,", "+\t.height = wb->height - 1,"),
    rule("achieved and network difficulty swapped", NETWORK, "+\t.share_diff = diff,\n+\t.network_diff = wb->network_diff,", "+\t.share_diff = wb->network_diff,\n+\t.network_diff = diff,"),
    rule("no block before", NETWORK, "+\t.prev_words = wb->prevhash,\n", ""),
    rule("every refusal is a block", NETWORK, "tbg_block_refused(", "tbg_block_found("),
    rule("tip for every template", NETWORK, "+if (new_block)\n", "+if (wb)\n"),
    rule("the tip's height is the work's", NETWORK, "wb->height - 1", "wb->height"),
    rule("5-minute rate replaced by the hour's, users", NETWORK, "user->dsps5,", "user->dsps60,"),
    rule("5-minute rate replaced by the hour's, workers", NETWORK, "worker->dsps5,", "worker->dsps60,"),
    rule("the week's rate for the day's", NETWORK, "worker->dsps1440", "worker->dsps10080"),
    rule("a worker's rate without its name", NETWORK, "+\t.workername = worker->workername,\n", ""),
    Mutant("calls not counted", "weave", "    if not wrong and calls != expected:", "    if False:", ("weave",)),
    Mutant("hooks not counted", "weave", "        if len(matches) == 1:", "        if matches:", ("weave",)),
    Mutant("no census", "weave", "    wrong += check_census(before)\n", "", ("weave",)),
    Mutant("no notice of change", "weave", "notice(name) + text", "text", ("weave",)),
    Mutant("a node's answer not noted", "weave", r"\1tbg_block_answered();", r"\1(void)0;", ("play", "weave")),
    Mutant("a proxy's header not read", "weave", "&client->tbg, client->fd, client->address_name,", "&client->tbg, -1, client->address_name,", ("proxied", "weave")),
    Mutant("a refused header is the miner's", "weave", "\\n\\t\\treturn true;", "\\n\\t\\t(void)0;", ("proxied",)),
    # The module.
    source("everybody is a proxy", "proxy.c", "named |= bits >= 0 &&", "named |= bits >= 0 ||", "test_proxy"),
    source("a network's last bits", "proxy.c", "(unsigned char)(0xff00 >> bits % 8)", "(unsigned char)(0xff00 >> 7)", "test_proxy"),
    source("networks not compared by whole bytes", "proxy.c", "!memcmp(one->bytes, network->bytes, whole) &&", "", "test_proxy"),
    source("more bits than an address has", "proxy.c", "bits > 128 - before", "bits > 999", "test_proxy"),
    source("signs in front of bits", "proxy.c", 'strchr("+- ", slash[1])', "0", "test_proxy"),
    source("letters behind bits", "proxy.c", "before < 0 || *end", "before < 0", "test_proxy"),
    source("a wrong proxy is not said", "proxy.c", "if (wrong && ", "if (0 && ", "test_proxy"),
    source("a wrong proxy is said each time", "proxy.c", "!atomic_flag_test_and_set(&said)", "1", "test_proxy"),
    source("IPv4 told as IPv6", "proxy.c", "if (!memcmp(from->bytes, mapped, 12))", "if (0)", "test_proxy"),
    source("another protocol's line", "proxy.c", "&& strcmp(words[1], \"TCP6\") != 0", "&& 0", "test_proxy"),
    source("a line with more words", "proxy.c", " || words[6])", ")", "test_proxy"),
    source("a NUL in a line", "proxy.c", "strlen(line) != of->have", "0", "test_proxy"),
    source("a line without an end", "proxy.c", "while (of->have < TBG_PROXY_LINE) {", "for (;;) {", "test_proxy"),
    source("the proxy's own check named as a miner", "proxy.c", "bool ours = of->head[12] == 0x20", "bool ours = false", "test_proxy"),
    source("the destination for the source", "proxy.c", "map_ipv4(miner, of->head + FIXED)", "map_ipv4(miner, of->head + FIXED + 4)", "test_proxy"),
    source("IPv6 by IPv4's length", "proxy.c", "(family == 1 ? 12 : 36)", "12", "test_proxy"),
    source("no room for addresses", "proxy.c", "(family == 1 ? 12 : 36)", "0", "test_proxy"),
    source("another signature", "proxy.c", "memcmp(of->head, SIGNATURE, 12) != 0", "0", "test_proxy"),
    source("another version", "proxy.c", "(of->head[12] != 0x20 && of->head[12] != 0x21)", "0", "test_proxy"),
    source("a header of any length", "proxy.c", "of->rest > BODY_MAX", "0", "test_proxy"),
    source("extensions left for the miner", "proxy.c", "\twhile (of->rest) {", "\twhile (0) {", "test_proxy"),
    source("the miner's bytes taken along", "proxy.c", "of->rest < sizeof(beyond) ? of->rest : sizeof(beyond)", "sizeof(beyond)", "test_proxy"),
    source("a wrong header is not hung up", "proxy.c", "\t\tshutdown(fd, SHUT_RDWR);\n", "", "test_proxy"),
    source("a wrong header is forgotten", "proxy.c", "\t\tof->state = REFUSED;\n", "\t\tof->state = MINER;\n", "test_proxy"),
    source("an end in a header is waited for", "proxy.c", "\tif (!whole)\n\t\treturn over;", "\tif (!whole)\n\t\treturn false;", "test_proxy"),
    source("a silent proxy is a miner", "proxy.c", "!is_begun(of, fd, &over))\n\t\treturn over;", "!is_begun(of, fd, &over))\n\t\treturn true;", "test_proxy"),
    source("a proxy must send a header", "proxy.c", "? BINARY : MINER;", "? BINARY : LINE;", "test_proxy"),
    source("the address not taken over", "proxy.c", "\t\twrite_address(&miner, address, size);\n", "\t\t(void)size;\n", "test_proxy"),
    source("state written in place", "state.c", '"%s.new"', '"%s"', "test_disk"),
    source("bests without fsync", "state.c", " && !fsync(fd)", "", "test_disk"),
    source("no bests loaded", "events.c", "\tload_bests(log);\n", "", "test_disk"),
    source("damage not noticed", "state.c", "!= header.check", "== header.key[0]", "test_best"),
    source("signals not blocked", "thread.c", "sigfillset(&all)", "sigemptyset(&all)", "test_events"),
    source("bests saved at the end alone", "saver.c", "if (minute) {", "if (0) {", "test_disk"),
    source("the block marked without a cell", "events.c", "\tif (!cell)\n\t\treturn;\n\tif (block", "\tif (!cell) {\n\t\tatomic_store(mark, mixed);\n\t\treturn;\n\t}\n\tif (block", "test_rare"),
    source("a block not remembered", "events.c", "\treturn mixed + !mixed;", "\treturn mixed + !mixed + boots.page->emitted;", "test_events", "test_rare"),
    source("blocks in the common ring", "events.c", "cell = tbg_ring_take(&rare, 0);", "cell = NULL;", "test_rare"),
    source("connects in the common ring", "events.c", "tbg_ring_take(&rare, SESSIONS_SPARE)", "NULL", "test_rare"),
    source("nothing kept back for blocks", "ring.c", "if (spare && ", "if (0 && spare && ", "test_rare"),
    source("rare events last", "sender.c", "\tif (waiting(sender->rare))", "\tif (!other && waiting(sender->rare))", "test_rare"),
    source("a lost event has no number", "sender.c", "++sender->numbered + sender->dropped", "++sender->numbered", "test_rare"),
    source("lost events not counted", "events.c", "\tatomic_fetch_add_explicit(&lost_full, 1", "\tatomic_fetch_add_explicit(&lost_rates, 0", "test_rare"),
    source("off before it drains", "events.c", "\tstarted = false;\n\ttbg_sender", "\tstarted = false;\n\tkinds = 0;\n\ttbg_sender", "test_boot"),
    source("what comes after the end is not counted", "events.c", "\tif (!is_on(kind))\n\t\treturn NULL;\n\t/*", "\tif (!is_on(kind) || over)\n\t\treturn NULL;\n\t/*", "test_boot"),
    source("the end is not said", "sender.c", "\treturn sender->fd < 0 ||\n", "\treturn true ||\n", "test_boot"),
    source("who stops does not look for the next receiver", "sender.c", "|| say_end(sender))\n", "|| (say_end(sender), true))\n", "test_events"),
    source("no heartbeat", "sender.c", "\t\tbeat(sender);\n", "", "test_boot"),
    source("former boots not said", "sender.c", "\tif (!say_former(sender) ||\n\t    !say(", "\tif (!say(", "test_boot"),
    source("told at the first beat", "sender.c", "sender->beats >= BEATS_TO_TELL - 1", "sender->beats >= 0", "test_boot"),
    source("the page not read", "boot.c", "page->magic == MAGIC", "page->magic != MAGIC", "test_boot"),
    source("killed is ended", "boot.c", "boot->state = TBG_BOOT_CRASHED;", "boot->state = TBG_BOOT_ENDED;", "test_boot"),
    source("a former boot's place not checked", "boot.c", "boot->check == check_of(boot) &&", "", "test_boot"),
    source("no lock on the state", "boot.c", "flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK", "0", "test_boot"),
    source("the boot's counters not saved", "saver.c", "save_boot(saver, TBG_BOOT_RUNNING, minute);", "(void)minute;", "test_boot"),
    source("nothing sent again", "sender.c", "sender->next = sender->made > TBG_KEPT ? sender->made - TBG_KEPT : 0;", "", "test_events"),
    source("an odd errno without a word", "sender.c", "errno != sender->told_errno) {", "errno == -1) {", "test_disk"),
    source("tries without a pause", "sender.c", "\ttbg_rest(sender->pause);\n", "", "test_disk"),
    source("untracked not said", "sender.c", "if (untracked != sender->told_untracked)", "if (0)", "test_disk"),
    source("a busy user makes room", "best.c", "\treturn age >= CYCLE / 2 ? 0 : age;", "\treturn age + 1;", "test_best"),
    source("nobody makes room", "best.c", "return idlest && ", "return 0 && ", "test_best"),
    source("the new one inherits", "best.c", "&entry->alltime, &alltime, 0,", "&entry->alltime, &alltime, alltime,", "test_best"),
    source("what ckpool knows is ignored", "best.c", "\tset_known(entry, known);\n", "", "test_best"),
    source("a sweep at every share", "best.c", "if (swept == TBG_NO_WEEK || is_far", "if (!swept || is_far", "test_best"),
    source("strangers' rows loaded", "state.c", "is_somebody(&rows[i]) && ", "", "test_best"),
    source("an equal share breaks the week", "best.c", "if (held >= value_of(bits))", "if (held > value_of(bits))", "test_best"),
    source("weeks in one place", "best.c", "&entry->weeks[week % TBG_WEEKS]", "&entry->weeks[0]", "test_best"),
    source("another hash than SipHash", "siphash.c", "v[2] ^= 0xff;", "v[2] ^= 0xfe;", "test_best"),
    source("weeks begin on Thursday", "week.c", "seconds / 86400 + 3", "seconds / 86400", "test_best"),
    source("zero rates for ever", "events.c", "|| is_known_quiet(hashrate)", "", "play"),
    source("zero rates never", "events.c", "return atomic_exchange_explicit(place, hash, memory_order_relaxed) == hash;", "return true;", "play"),
    source("a worker without a name is the total", "events.c", "if (hashrate->workername && !tbg_name_split(hashrate->workername).worker_length)", "if (0)", "test_events"),
    source("a lost answer is a refusal", "events.c", "\tif (unanswered)\n", "\tif (0)\n", "test_events"),
    source("unanswered for ever", "events.c", "tbg_block_found(block);\n\tunanswered = false;", "tbg_block_found(block);", "test_events"),
    source("ckpool's words for the block", "events.c", "if (tbg_proof_hash(&proof, hash)) {", "if (0) {", "test_events"),
    source("mismatches not counted", "record.c", "return !hash || (has_words", "return hash || (has_words", "test_events"),
    source("a proof outlives its share", "events.c", "\tproof.fresh = false;\n", "", "test_events"),
    source("a proof on session's bests", "events.c", 'if (strcmp(broken->period, "session") != 0)', "if (1)", "test_events", "play"),
    source("another share's proof", "proof.c", "return !strcmp(own, hash);", "return true;", "test_events"),
    source("words not reversed", "record.c", "8 * (7 - i)", "8 * i", "test_events", "play"),
    source("the subsidy never halves", "record.c", "halvings > 63 ? 0 : (int64_t)5000000000 >> halvings", "(int64_t)5000000000", "test_events"),
    source("rejected shares count as accepted", "events.c", "share->valid ? &session->accepted : &session->rejected", "&session->accepted", "test_events"),
    source("no quotes escaped", "json.c", "'\"'", "'\\1'", "test_json"),
    source("half a UTF-8 sequence kept", "json.c", "\t\t\treturn -1;", "\t\t\treturn length;", "test_json"),
    source("user names split at the dot alone", "name.c", '"._/+"', '"."', "test_events"),
    source("hex not filled up", "record.c", "length < digits ? digits - length : length % 2", "0", "test_events"),
    source("no address, no event", "write.c", "required ? \",\\\"ip\\\":\\\"0.0.0.0\\\"\" : ", "", "test_events"),
    source("impossible difficulties said", "json.c", " && number >= 1e-12 && number <= 0x1p224", "", "test_events"),
    source("the ring takes all memory", "settings.c", "> limit / 4)", "> limit)", "test_events"),
    source("the source is not cut", "settings.c", "if (strlen(wanted) > 16)", "if (strlen(wanted) > 99)", "test_events"),
    source("an unknown event turns all others off", "settings.c", '"tbg: TBG_EVENTS_EMIT names \'%s\', which is no event: all are sent",\n\t\t\t    name);\n\t\t\treturn ALL_KINDS;', '"tbg: TBG_EVENTS_EMIT names \'%s\', which is no event: all are sent",\n\t\t\t    name);\n\t\t\treturn 1;', "test_events"),
)  # fmt: skip


class Objects:
    """What is compiled once: the module's sources and the tests, as they are."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        for path in sorted([*root.glob("src/*.c"), *root.glob("tests/test_*.c")]):
            command = [*COMPILE, "-Isrc", "-Itests", "-c", path, "-o", self.of(path.name)]
            subprocess.run(command, cwd=root, check=True)

    def of(self, name: str) -> Path:
        return self.folder / f"{name}.o"

    def best(self, path: Path, where: str) -> Path:
        """The object of a source if it is as it was, else the source."""
        same = (self.root / where / path.name).read_bytes() == path.read_bytes()
        return self.of(path.name) if same else path


class Tree:
    """A copy of this folder, changed, and its tests."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self.objects, self.folder = objects, folder
        shutil.copytree(objects.root, folder, ignore=shutil.ignore_patterns("build", "__pycache__"))

    def run(self, *command: str | Path) -> bool:
        environment = {
            **os.environ,
            "LOCPATH": str(CKPOOL / "build" / "locale"),
            "CHECK_STOPS": "1",
        }
        # In a session of its own: a test that ends at once leaves nothing behind.
        with subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        ) as process:
            try:
                return process.wait(LIMIT) == 0
            except subprocess.TimeoutExpired:
                return False
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def module(self) -> list[Path]:
        sources = sorted((self.folder / "src").glob("*.c"))
        return [self.objects.best(path, "src") for path in sources]

    def passes(self, test: str) -> bool:
        if test == "weave":
            return self.run("tests/test_weave.py", "-f", "Good", "Changed")
        if test in ("play", "proxied"):
            return self.plays(test)
        path, made = self.folder / "tests" / f"{test}.c", self.folder / test
        if not path.exists():
            return True
        made_of = [self.objects.best(path, "tests"), *self.module()]
        command = [*COMPILE, "-Isrc", "-Itests", *made_of, "-lm", "-pthread", "-o", made]
        return self.run(*command) and self.run(made)

    def plays(self, test: str) -> bool:
        tree, made = self.folder / "woven", self.folder / test
        if not (self.run("tests/tree/shapes.py", "current", tree) and self.run("./weave", tree)):
            return False
        # The play has the stratifier in front.
        names = ("bitcoin.c",) if test == "play" else ("bitcoin.c", "stratifier.c", "connector.c")
        others = [path for path in (tree / "src" / name for name in names) if path.exists()]
        if "submit_block" not in (tree / "src/bitcoin.c").read_text():
            others.remove(tree / "src/bitcoin.c")
        flags = ["-DWITH_SV2", "-DSHAPE_current", f"-I{tree}/src", "-Itests"]
        made_of = [f"tests/tree/{test}.c", *others, *self.module()]
        command = [*COMPILE, *flags, *made_of, "-lm", "-pthread", "-o", made]
        return self.run(*command) and self.run(made)


def noticed_by(mutant: Mutant, objects: Objects) -> str | None:
    """The first test that fails; None if none does, and "absent" where there is nothing
    to change."""
    with tempfile.TemporaryDirectory(prefix="tbg-mutant-") as scratch:
        tree = Tree(objects, Path(scratch, "ckpool"))
        path = tree.folder / mutant.file
        text = path.read_text() if path.exists() else ""
        if mutant.old not in text:
            return "absent"
        path.write_text(text.replace(mutant.old, mutant.new))
        return next((test for test in mutant.tests if not tree.passes(test)), None)


def results(mutants: list[Mutant], root: Path, workers: int) -> Iterator[tuple[Mutant, str | None]]:
    with (
        tempfile.TemporaryDirectory(prefix="tbg-objects-") as folder,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
        objects = Objects(root, Path(folder))
        order = sorted(mutants, key=lambda mutant: mutant.tests[0] not in SLOW)
        found = pool.map(lambda mutant: noticed_by(mutant, objects), order)
        yield from zip(order, found, strict=True)


def processors() -> float:
    """Seconds that all that ran took of processors."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=CKPOOL, help="another ckpool/ folder")
    parser.add_argument("--only", default="", help="those whose name or file holds this")
    parser.add_argument("--workers", type=int, default=4 * (os.cpu_count() or 2))
    options = parser.parse_args()
    mutants = [m for m in MUTANTS if options.only in m.what or options.only in m.file]
    began, missed, absent = time.monotonic(), 0, 0
    print("| change | in | noticed by |\n| --- | --- | --- |")
    for mutant, test in results(mutants, options.root.resolve(), options.workers):
        missed += test is None
        absent += test == "absent"
        print(f"| {mutant.what} | `{mutant.file}` | {test or '**nobody**'} |", flush=True)
    print(
        f"\n{len(mutants)} changes, {missed} not noticed, {absent} of what is not there;"
        f" {time.monotonic() - began:.0f} s, of processors {processors():.0f} s"
    )
    return 1 if missed or (absent and options.root == CKPOOL) else 0


if __name__ == "__main__":
    sys.exit(main())
