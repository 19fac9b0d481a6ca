// Part of The Bitcoin Game's ckpool fork.
// Copyright (C) 2026 The Bitcoin Game
// SPDX-License-Identifier: GPL-3.0-or-later

// block_found, new_block_network and hashrate_update.

// The node accepted the block here. The call is one branch of an `if`, and the
// braces come by themselves.
@block depends on by_global@
@@
test_blocksolve(...)
{
<...
+tbg_block_found(&(struct tbg_block){
+	.user = client->user_instance->username,
+	.workername = client->workername,
+	.hash_words = blockhash,
+	.nonce = nonce,
+	.coinbase_sig = ckpool.btcsig,
+	.prev_words = wb->prevhash,
+	.height = wb->height,
+	.reward = wb->coinbasevalue,
+	.halving = tbg_halving_of(ckpool.regtest),
+	.share_diff = diff,
+	.network_diff = wb->network_diff,
+});
 block_solve(...);
...>
}

// Older trees know nothing of regtest, so fees stay unsaid there.
@block_ckp depends on by_argument@
@@
test_blocksolve(...)
{
<...
+tbg_block_found(&(struct tbg_block){
+	.user = client->user_instance->username,
+	.workername = client->workername,
+	.hash_words = blockhash,
+	.nonce = nonce,
+	.coinbase_sig = ckp->btcsig,
+	.prev_words = wb->prevhash,
+	.height = wb->height,
+	.reward = wb->coinbasevalue,
+	.share_diff = diff,
+	.network_diff = wb->network_diff,
+});
 block_solve(...);
...>
}

// What ckpool takes for a refusal may be an answer that got lost.
@refused depends on by_global@
@@
test_blocksolve(...)
{
<...
+tbg_block_refused(&(struct tbg_block){
+	.user = client->user_instance->username,
+	.workername = client->workername,
+	.hash_words = blockhash,
+	.nonce = nonce,
+	.coinbase_sig = ckpool.btcsig,
+	.prev_words = wb->prevhash,
+	.height = wb->height,
+	.reward = wb->coinbasevalue,
+	.halving = tbg_halving_of(ckpool.regtest),
+	.share_diff = diff,
+	.network_diff = wb->network_diff,
+});
 block_reject(...);
...>
}

@refused_ckp depends on by_argument@
@@
test_blocksolve(...)
{
<...
+tbg_block_refused(&(struct tbg_block){
+	.user = client->user_instance->username,
+	.workername = client->workername,
+	.hash_words = blockhash,
+	.nonce = nonce,
+	.coinbase_sig = ckp->btcsig,
+	.prev_words = wb->prevhash,
+	.height = wb->height,
+	.reward = wb->coinbasevalue,
+	.share_diff = diff,
+	.network_diff = wb->network_diff,
+});
 block_reject(...);
...>
}

@tip@
@@
block_update(...)
{
<...
 add_base(...);
+if (new_block)
+	tbg_new_block_network(&(struct tbg_tip){
+		.hash = sdata->lastswaphash,
+		.height = wb->height - 1,
+		.network_diff = wb->network_diff,
+	});
...>
}

// About once a minute, after upstream let the averages of the idle decay.
@user_rate@
@@
statsupdate(...)
{
<...
 ghs = user->dsps10080 * nonces;
+tbg_hashrate_update(&(struct tbg_hashrate){
+	.user = user->username,
+	.dsps_1m = user->dsps1,
+	.dsps_5m = user->dsps5,
+	.dsps_1h = user->dsps60,
+	.dsps_24h = user->dsps1440,
+});
...>
}

@worker_rate@
@@
statsupdate(...)
{
<...
 ghs = worker->dsps10080 * nonces;
+tbg_hashrate_update(&(struct tbg_hashrate){
+	.user = user->username,
+	.workername = worker->workername,
+	.dsps_1m = worker->dsps1,
+	.dsps_5m = worker->dsps5,
+	.dsps_1h = worker->dsps60,
+	.dsps_24h = worker->dsps1440,
+});
...>
}
