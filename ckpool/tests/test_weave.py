#!/usr/bin/env python3
# Part of The Bitcoin Game's ckpool fork.
# Copyright (C) 2026 The Bitcoin Game
# SPDX-License-Identifier: GPL-3.0-or-later
"""The weave command on a tree of our own: what it puts in, that a changed shape
fails loudly and leaves the tree alone, and that older shapes are served."""

import datetime
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CKPOOL = Path(__file__).resolve().parent.parent
TREE = CKPOOL / "tests" / "tree"
sys.path.insert(0, str(TREE))

import shapes  # noqa: E402  # it lies beside the tree


class WeaveTest(unittest.TestCase):
    SHAPE = "current"

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.tree = Path(scratch.name, "ckpool")
        shapes.make(self.SHAPE, self.tree)

    def file(self, name: str) -> Path:
        return self.tree / "src" / name

    def weave(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CKPOOL / "weave", *options, self.tree], capture_output=True, text=True, check=False
        )

    def change(self, name: str, old: str, new: str, count: int = 1) -> None:
        text = self.file(name).read_text()
        self.assertEqual(text.count(old), count, f"{old!r} in {name}")
        self.file(name).write_text(text.replace(old, new))

    def append(self, name: str, text: str) -> None:
        self.file(name).write_text(self.file(name).read_text() + text)

    def contents(self) -> dict[str, str]:
        return {p.name: p.read_text() for p in self.file(".").iterdir()}

    def assert_refused(self, *said: str) -> None:
        before = self.contents()
        run = self.weave()
        self.assertEqual(run.returncode, 1, run.stdout)
        for words in said:
            self.assertIn(words, run.stderr)
        self.assertEqual(self.contents(), before, "a refused tree must stay as it was")


class Good(WeaveTest):
    def test_every_hook_is_named_with_its_place(self) -> None:
        run = self.weave()
        self.assertEqual(run.returncode, 0, run.stderr)
        for event in (
            "share_submitted",
            "share_best_diff",
            "block_found",
            "miner_connected",
            "miner_disconnected",
            "diff_updated",
            "hashrate_update",
            "new_block_network",
        ):
            self.assertRegex(run.stdout, rf"{event}[^\n]*\(\), line \d+")
        self.assertIn("26 checks passed", run.stdout)

    def test_nothing_but_additions_is_made(self) -> None:
        before = self.file("stratifier.c").read_text().splitlines()
        self.weave()
        after = iter(self.file("stratifier.c").read_text().splitlines())
        for line in before:
            # The one line that may change gains a brace.
            self.assertTrue(any(line in (new, new.removesuffix(" {")) for new in after), line)

    def test_sources_join_the_program_alone(self) -> None:
        self.weave()
        text = self.file("Makefile.am").read_text().replace("\\\n", " ")
        program = re.search(r"^ckpool_SOURCES\s*=(.*)$", text, re.MULTILINE)
        assert program
        for path in CKPOOL.glob("src/*.[ch]"):
            self.assertIn(path.name, program.group(1).split())
            self.assertEqual(self.file(path.name).read_text(), path.read_text())
        self.assertIn("stratifier.c", program.group(1).split())
        # What joins under a condition stays as it is.
        self.assertRegex(text, r"(?m)^ckpool_SOURCES \+= ipc\.cpp$")
        self.assertRegex(text, r"(?m)^notifier_SOURCES = notifier\.c$")

    def test_signet_is_asked_for_and_understood(self) -> None:
        self.weave()
        text = self.file("bitcoin.c").read_text()
        self.assertIn(r"\"rules\" : [\"segwit\", \"signet\"]", text)
        self.assertIn('understood_rules[] = {"segwit", "signet"}', text)

    def test_changed_files_say_so_with_the_date(self) -> None:
        before = {path.name for path in self.file(".").iterdir()}
        os.environ["SOURCE_DATE_EPOCH"] = "1763769600"
        self.addCleanup(os.environ.pop, "SOURCE_DATE_EPOCH")
        self.weave()
        said = {
            name
            for name in before
            if "Changed by The Bitcoin Game on 2025-11-22"
            in self.file(name).read_text().split("\n")[0]
        }
        self.assertEqual(said, {"stratifier.c", "bitcoin.c", "connector.c", "Makefile.am"})
        os.environ["SOURCE_DATE_EPOCH"] = ""
        shapes.make(self.SHAPE, self.tree)
        self.weave()
        today = datetime.datetime.now(datetime.UTC).date()
        line = self.file("stratifier.c").read_text().split("\n")[0]
        self.assertTrue(str(today) in line or str(today - datetime.timedelta(1)) in line, line)

    def test_answers_to_blocks_are_noted_where_the_node_is_asked(self) -> None:
        self.weave()
        text = self.file("bitcoin.c").read_text()
        self.assertEqual(text.count("tbg_block_asked();"), 1)
        self.assertRegex(text, r"submit_block\([^)]*\)\n\{\n\ttbg_block_asked\(\);")
        self.assertRegex(text, r"res_ret = [^;]*;\n\t*tbg_block_answered\(\);")
        self.assertRegex(text, r'#include "bitcoin\.h"\n#include "tbg_events\.h"\n')

    def test_a_proxys_header_is_read_in_front_of_the_first_request(self) -> None:
        run = self.weave()
        self.assertRegex(run.stdout, r"proxied: parse_client_msg\(\), line \d+")
        text = self.file("connector.c").read_text()
        self.assertRegex(text, r"parse_client_msg\([^)]*\)\n\{\n\tif \(!tbg_proxied\(&client->tbg,")
        self.assertRegex(text, r"\nstruct client_instance \{\n\tstruct tbg_proxied tbg;\n")
        self.assertIn('#include "stratifier.h"\n#include "tbg_proxy.h"\n', text)
        self.assertEqual(text.count("tbg_"), 3)

    def test_a_second_time_is_refused(self) -> None:
        self.assertEqual(self.weave().returncode, 0)
        self.assert_refused("woven already")

    def test_a_dry_run_writes_nothing(self) -> None:
        before = self.contents()
        self.assertEqual(self.weave("--dry-run").returncode, 0)
        self.assertEqual(self.contents(), before)

    def test_bytes_that_are_no_utf_8_stay_as_they_are(self) -> None:
        path = self.file("stratifier.c")
        path.write_bytes(path.read_bytes() + b"/* by K\xf3nig \xe2\x82 */\n")
        run = self.weave()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertTrue(path.read_bytes().endswith(b"/* by K\xf3nig \xe2\x82 */\n"))

    def test_a_tree_without_stratum_v2_is_served(self) -> None:
        text = self.file("stratifier.c").read_text()
        text = re.sub(r"#ifdef WITH_SV2.*?#endif\n", "", text, flags=re.DOTALL)
        self.file("stratifier.c").write_text(text)
        run = self.weave()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("has no stratifier_sv2_set_diff", run.stdout)


class Pinned(Good):
    """The shape of the pin before: the same rules, the same results."""

    SHAPE = "pinned"


class Report(WeaveTest):
    """What a dry run prints is for an issue: whole, and free of the machine's paths."""

    def dry(self) -> subprocess.CompletedProcess[str]:
        run = self.weave("--dry-run")
        self.assertNotIn(str(self.tree), run.stdout)
        self.assertNotIn(str(CKPOOL), run.stdout)
        self.assertEqual(run.stderr, "")
        return run

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", self.tree, *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def test_a_good_tree_is_reported_with_every_check(self) -> None:
        run = self.dry()
        self.assertEqual(run.returncode, 0)
        self.assertIn("- upstream: no git clone", run.stdout)
        self.assertRegex(
            run.stdout, r"(?m)^- src/stratifier\.c: \d{3} lines, SHA-256 [0-9a-f]{16}…$"
        )
        self.assertRegex(run.stdout, r"(?m)^- spatch version [\d.]+ .*; Python 3")
        self.assertRegex(run.stdout, r"(?m)^\*\*(\d+) checks passed, nothing written\*\*$")
        self.assertEqual(run.stdout.count("\n| ok |"), int(run.stdout.split("**")[1].split()[0]))
        self.assertNotIn("MISS", run.stdout)

    def test_a_clone_is_named_by_its_commit_and_what_changed_in_it(self) -> None:
        self.git("init", "-q")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "upstream")
        commit = self.git("rev-parse", "HEAD")
        self.assertIn(f"- upstream: commit {commit}\n", self.dry().stdout)
        self.append("ckpool.h", "\n")
        self.assertIn(f"commit {commit}, 1 files changed since\n", self.dry().stdout)

    def test_misses_come_first_and_the_rest_is_there(self) -> None:
        self.change("stratifier.c", "\tadd_submit(client,", "\tcount_submit(client,")
        self.change("bitcoin.c", "char *understood_rules", "char *known_rules")
        before = self.contents()
        run = self.dry()
        self.assertEqual(run.returncode, 1)
        self.assertIn("**3 missed, nothing written**", run.stdout)
        table = run.stdout.split("| --- | --- |\n")[1].splitlines()
        self.assertEqual(
            [row.startswith("| **MISS** |") for row in table[:4]], [True] * 3 + [False]
        )
        self.assertIn("share_submitted: 0 hooks in parse_submit()", run.stdout)
        self.assertIn("| ok | src/stratifier.c: miner_connected: client_auth(), line", run.stdout)
        self.assertEqual(self.contents(), before)

    def test_a_folder_that_is_no_upstream_is_reported_as_well(self) -> None:
        self.file("bitcoin.c").unlink()
        run = self.dry()
        self.assertEqual(run.returncode, 1)
        self.assertIn("| **MISS** | src/bitcoin.c is not there", run.stdout)


class Older(WeaveTest):
    """Shapes of older trees: the pool as a leading argument, its fields by
    arrow, and no word for shares before the first work."""

    SHAPE = "older"

    def test_every_hook_is_there_and_compiles(self) -> None:
        run = self.weave()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("26 checks passed", run.stdout)
        self.assertIn("has no SE_NO_WORKBASE", run.stdout)
        text = self.file("stratifier.c").read_text()
        self.assertIn("tbg_events_start(ckp->name, ckp->logdir, logmsg);", text)
        self.assertIn(".coinbase_sig = ckp->btcsig", text)
        compiler = subprocess.run(
            ["gcc", "-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
             "-Wno-unused-function", "-Wno-unused-parameter", self.file("stratifier.c")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.assertEqual(compiler.returncode, 0, compiler.stderr)


class Solo(Older):
    """Of the trees that solo pools run: difficulties are fractions."""

    SHAPE = "solo"


class Changed(WeaveTest):
    """Each rule, when upstream moves from under it."""

    def test_the_header_is_gone(self) -> None:
        self.change("stratifier.c", '#include "stratifier.h"', '#include "other.h"')
        self.assert_refused("header: 0 hooks", '#include "stratifier.h"')

    def test_the_connection_struct_is_renamed(self) -> None:
        text = self.file("stratifier.c").read_text().replace("struct stratum_instance", "struct si")
        self.file("stratifier.c").write_text(text)
        self.assert_refused("session: 0 hooks")

    def test_the_start_moved(self) -> None:
        self.change("stratifier.c", "ckpool.sdata = sdata;", "*&ckpool.sdata = sdata;")
        self.assert_refused("start: 0 hooks in stratifier()")

    def test_a_function_is_renamed(self) -> None:
        for name, event in (
            ("client_auth", "miner_connected"),
            ("__kill_instance", "miner_disconnected"),
            ("test_blocksolve", "block_found"),
            ("block_update", "new_block_network"),
            ("statsupdate", "hashrate_update, users"),
            ("suggest_diff", "diff_updated, suggest"),
            ("sauth_process", "diff_updated, mindiff"),
        ):
            with self.subTest(name):
                shapes.make(self.SHAPE, self.tree)
                text = self.file("stratifier.c").read_text()
                self.file("stratifier.c").write_text(re.sub(rf"\b{name}\b", f"new_{name}", text))
                self.assert_refused(f"{event}: there is no function {name}()")

    def test_shares_are_counted_twice(self) -> None:
        self.change(
            "stratifier.c",
            "\tadd_submit(client, diff, result, submit);",
            "\tif (result)\n\t\tadd_submit(client, diff, true, submit);\n"
            "\telse\n\t\tadd_submit(client, diff, false, submit);",
        )
        self.assert_refused("share_submitted: 2 hooks in parse_submit()")

    def test_shares_are_counted_by_another_name(self) -> None:
        self.change("stratifier.c", "\tadd_submit(client,", "\tcount_submit(client,")
        self.assert_refused(
            "share_submitted: 0 hooks", "share_best_diff: 0 hooks", "add_submit(...)"
        )

    def test_malformed_shares_end_elsewhere(self) -> None:
        self.change("stratifier.c", "\tif (!share)\n", "\tif (share == false)\n")
        self.assert_refused("share_submitted, malformed: 0 hooks")

    def test_shares_before_work_end_elsewhere(self) -> None:
        self.change(
            "stratifier.c",
            "err = SE_NO_WORKBASE;\n\t\t*err_code = err;",
            "*err_code = SE_NO_WORKBASE;",
        )
        self.assert_refused("share_submitted, no work yet: 0 hooks")

    def test_nonces_are_tested_otherwise(self) -> None:
        self.change("stratifier.c", "strlen(nonce) < 8", "9 > strlen(nonce)")
        self.assert_refused("nonce, filled up: 0 hooks in parse_submit()")

    def test_difficulty_is_worked_out_elsewhere(self) -> None:
        text = self.file("stratifier.c").read_text()
        self.file("stratifier.c").write_text(text.replace("submission_diff", "diff_of_submission"))
        self.assert_refused("proof of work: there is no function submission_diff()")

    def test_blocks_are_solved_in_two_places(self) -> None:
        self.change("stratifier.c", "\t\tblock_reject(blockhash);", "\t\tblock_solve(blockhash);")
        self.assert_refused("block_found: 2 hooks")

    def test_blocks_are_refused_in_two_places(self) -> None:
        self.change("stratifier.c", "\t\tblock_solve(blockhash);", "\t\tblock_reject(blockhash);")
        self.assert_refused("block_found: 0 hooks", "block_found, answer lost: 2 hooks")

    def test_a_node_answers_in_two_places(self) -> None:
        self.change(
            "bitcoin.c", "\t\tres_ret = answer;", "\t\tres_ret = answer;\n\t\tres_ret = answer;"
        )
        self.assert_refused("submit_block() takes a node's reason in 2 places, not 1")

    def test_the_node_is_asked_by_another_name(self) -> None:
        text = self.file("bitcoin.c").read_text().replace("submit_block(", "send_block(")
        self.file("bitcoin.c").write_text(text)
        run = self.weave()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("answers to blocks: not in this tree", run.stdout)
        self.assertNotIn("tbg_", self.file("bitcoin.c").read_text())

    def test_a_call_of_ours_stands_where_no_hook_put_it(self) -> None:
        self.append(
            "stratifier.c", "\nstatic void twice(void)\n{\n\ttbg_new_block_network(NULL);\n}\n"
        )
        self.assert_refused("calls of ours in all, not 18")

    def test_vardiff_is_set_by_other_means(self) -> None:
        self.change(
            "stratifier.c",
            "\t\tclient->diff = optimal;\n\t}",
            "\t\tset_diff(client, optimal);\n\t}",
        )
        self.assert_refused("diff_updated, vardiff: 0 hooks in add_submit()")

    def test_a_new_place_changes_the_difficulty(self) -> None:
        self.append(
            "stratifier.c",
            "\nstatic void surprise(struct stratum_instance *client)\n{\n\tclient->diff = 5;\n}\n",
        )
        self.assert_refused("surprise() assigns client->diff")

    def test_a_new_place_counts_shares(self) -> None:
        self.append(
            "stratifier.c",
            "\nstatic void fast_submit(struct stratum_instance *client)\n"
            "{\n\tadd_submit(client, 1, true);\n}\n",
        )
        self.assert_refused("fast_submit() counts a share")

    def test_new_ways_to_authorise_and_to_write_the_tip_are_named(self) -> None:
        run = self.weave("--dry-run")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.append(
            "stratifier.c",
            "\nstatic void side_door(struct stratum_instance *client, pool_data_t *sdata)\n"
            "{\n\tclient->authorised = true;\n\tstrcpy(sdata->lastswaphash, \"00\");\n}\n",
        )
        run = self.weave()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("look at side_door() of src/stratifier.c: it authorises a client", run.stderr)
        self.assertIn("look at side_door() of src/stratifier.c: it writes the tip", run.stderr)

    def test_work_is_added_in_two_places(self) -> None:
        self.change(
            "stratifier.c",
            "\tadd_base(sdata, wb, &new_block);\n",
            "\tadd_base(sdata, wb, &new_block);\n" * 2,
        )
        self.assert_refused("new_block_network: 2 hooks")

    def test_hashrates_are_worked_out_differently(self) -> None:
        self.change("stratifier.c", "ghs = user->dsps10080 * nonces;", "ghs = rate(user);")
        self.assert_refused("hashrate_update, users: 0 hooks")

    def test_the_template_request_is_worded_differently(self) -> None:
        self.change("bitcoin.c", r"\"segwit\"]", r"\"segwit\", \"signet\"]")
        self.assert_refused("src/bitcoin.c", "getblocktemplate", "0 places")

    def test_the_understood_rules_are_elsewhere(self) -> None:
        self.change("bitcoin.c", "char *understood_rules", "char *known_rules")
        self.assert_refused("src/bitcoin.c: the rules that are understood")

    def test_connections_are_read_elsewhere(self) -> None:
        for old, new, said in (
            ("parse_client_msg(", "parse_message(", "0 functions parse_client_msg(), not 1"),
            ("client_instance_t *client)", "client_instance_t *one)", "its argument `client`"),
            ("static bool parse", "static int parse", "whether its argument `client` goes on"),
            ("struct client_instance {", "struct ci {", "what is kept of a connection: 0 places"),
            ('"stratifier.h"', '"other.h"', "the stratifier's header: 0 places"),
        ):
            with self.subTest(old):
                shapes.make(self.SHAPE, self.tree)
                text = self.file("connector.c").read_text()
                self.assertIn(old, text)
                self.file("connector.c").write_text(text.replace(old, new))
                self.assert_refused("src/connector.c", said)

    def test_the_build_names_its_sources_differently(self) -> None:
        self.change("Makefile.am", "ckpool_SOURCES", "pool_SOURCES", count=4)
        self.assert_refused("src/Makefile.am: the sources of ckpool")

    def test_several_misses_are_all_named(self) -> None:
        self.change("stratifier.c", "\tadd_submit(client,", "\tcount_submit(client,")
        self.change("bitcoin.c", "char *understood_rules", "char *known_rules")
        self.assert_refused("share_submitted: 0 hooks", "the rules that are understood")

    def test_it_is_no_source_tree_at_all(self) -> None:
        self.file("stratifier.c").unlink()
        self.assert_refused("is not there")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"] if len(sys.argv) == 1 else sys.argv)
