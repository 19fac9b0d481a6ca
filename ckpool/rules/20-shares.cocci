// Part of The Bitcoin Game's ckpool fork.
// Copyright (C) 2026 The Bitcoin Game
// SPDX-License-Identifier: GPL-3.0-or-later

// share_submitted and share_best_diff.
//
// parse_submit() has one add_submit() that sees every share whose fields could
// be read: accepted, stale, duplicate, above target, ntime out of range, and
// unknown job. The workbase may be gone by then and is left alone. Bests come
// from here rather than from check_best_diff(), which runs before a share is
// known to be valid.

@share@
@@
parse_submit(...)
{
<...
+if (result)
+	tbg_share_accepted(&client->tbg, user->username, client->workername, sdiff, hexhash);
 add_submit(...);
+tbg_share_submitted(&client->tbg, &(struct tbg_share){
+	.user = user->username,
+	.workername = client->workername,
+	.diff = diff,
+	.share_diff = sdiff,
+	.valid = result,
+	.reject_reason = SHARE_ERR(err),
+	.job_id = job_id,
+	.nonce = nonce,
+	.nonce2 = nonce2,
+	.ntime = ntime,
+	.hash = hexhash,
+	.ip = client->address,
+	.user_agent = client->useragent,
+	.client_id = client->id,
+	.version_bits = version_mask32,
+	.network_diff = sdata->stats.network_diff,
+});
...>
}

// Some firmware writes numbers without leading zeros. The text that upstream tests
// is its JSON's, so the longer one stands on the stack.
@nonce@
expression E;
statement S;
@@
parse_submit(...)
{
<...
 nonce = E;
+nonce = tbg_padded_nonce(nonce, alloca(9));
 if (<+... strlen(nonce) < 8 ...+>) S
...>
}

// Header, coinbase and merkle branch are together only here, before the verdict.
// `swap` is the header as it is hashed; `data` has the bytes of its words swapped.
@proof@
@@
submission_diff(...)
{
<...
+tbg_share_proof(hash, swap, coinbase, cblen, wb->merklebin, wb->merkles);
 test_blocksolve(...);
...>
}

// What could not be read skips add_submit() and ends at the last test of
// `share`, a log line or a block. The strings may be uninitialised there: none is
// passed.
@malformed@
statement S;
@@
parse_submit(...)
{
<...
+if (!share)
+	tbg_share_submitted(&client->tbg, &(struct tbg_share){
+		.user = user->username,
+		.workername = client->workername,
+		.diff = diff,
+		.reject_reason = SHARE_ERR(err),
+		.ip = client->address,
+		.user_agent = client->useragent,
+		.client_id = client->id,
+	});
 if (!share) S
...>
}

// Shares before the first work leave by a return of their own.
@no_work@
@@
parse_submit(...)
{
<...
 err = SE_NO_WORKBASE;
+tbg_share_submitted(&client->tbg, &(struct tbg_share){
+	.user = user->username,
+	.workername = client->workername,
+	.diff = diff,
+	.reject_reason = SHARE_ERR(err),
+	.ip = client->address,
+	.user_agent = client->useragent,
+	.client_id = client->id,
+});
...>
}
