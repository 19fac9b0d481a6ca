// Part of The Bitcoin Game's ckpool fork.
// Copyright (C) 2026 The Bitcoin Game
// SPDX-License-Identifier: GPL-3.0-or-later

// miner_connected, miner_disconnected and diff_updated. Miners behind a trusted
// remote server are that server's: its own engine reports them.

@connected@
expression E;
@@
client_auth(...)
{
<...
 client->authorised = E;
+if (!client->remote)
+	tbg_miner_connected(&(struct tbg_connected){
+		.user = user->username,
+		.workername = client->workername,
+		.ip = client->address,
+		.user_agent = client->useragent,
+		.protocol = "stratum_v1",
+		.client_id = client->id,
+		.diff = client->diff,
+		.best_ever = user->best_ever,
+		.session = &client->tbg,
+	});
...>
}

// The instance lock is write-held here, which is why no call of ours may wait.
@disconnected@
@@
__kill_instance(...)
{
+if (client->authorised && client->workername && client->user_instance && !client->remote)
+	tbg_miner_disconnected(&client->tbg, &(struct tbg_disconnected){
+		.user = client->user_instance->username,
+		.workername = client->workername,
+		.ip = client->address,
+		.reason = tbg_reason_gone(client->reject, client->idle),
+		.client_id = client->id,
+		.since = client->start_time * 1000000LL,
+	});
...
}

// Before each assignment, while the old difficulty is still there. The right
// hand sides are plain variables.

@vardiff@
identifier d;
@@
add_submit(...)
{
<...
+tbg_diff_updated(&(struct tbg_diff){
+	.user = user->username,
+	.workername = client->workername,
+	.reason = "vardiff",
+	.client_id = client->id,
+	.old_diff = client->diff,
+	.new_diff = d,
+});
 client->diff = d;
...>
}

@suggest@
identifier d;
@@
suggest_diff(...)
{
<...
+tbg_diff_updated(&(struct tbg_diff){
+	.user = client->user_instance->username,
+	.workername = client->workername,
+	.reason = "suggest",
+	.client_id = client->id,
+	.old_diff = client->diff,
+	.new_diff = d,
+});
 client->diff = d;
...>
}

@mindiff@
identifier d;
@@
sauth_process(...)
{
<...
+tbg_diff_updated(&(struct tbg_diff){
+	.user = client->user_instance->username,
+	.workername = client->workername,
+	.reason = "mindiff",
+	.client_id = client->id,
+	.old_diff = client->diff,
+	.new_diff = d,
+});
 client->diff = d;
...>
}

@sv2_set_diff@
identifier d;
@@
stratifier_sv2_set_diff(...)
{
<...
+tbg_diff_updated(&(struct tbg_diff){
+	.user = client->user_instance->username,
+	.workername = client->workername,
+	.reason = "sv2",
+	.client_id = client->id,
+	.old_diff = client->diff,
+	.new_diff = d,
+});
 client->diff = d;
...>
}
