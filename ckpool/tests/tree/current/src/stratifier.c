/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * This program is free software: you can redistribute it and/or modify it
 * under the terms of the GNU General Public License as published by the Free
 * Software Foundation, either version 3 of the License, or (at your option)
 * any later version. It comes without any warranty; see LICENSE for details.
 */

#include "stratifier.h"

static const double nonces = 0x1p32;

struct user_instance {
	bool authorised;
	char username[128];
	int64_t best_ever;
	struct worker_instance *first;
	double dsps1, dsps5, dsps60, dsps1440, dsps10080;
};

struct worker_instance {
	char *workername;
	struct worker_instance *next;
	int64_t mindiff;
	double dsps1, dsps5, dsps60, dsps1440, dsps10080;
};

struct stratum_instance {
	int64_t id, diff, old_diff, suggest_diff;
	int reject;
	bool authorised, remote, idle;
	time_t start_time;
	char address[46];
	char *workername, *useragent;
	struct user_instance *user_instance;
	struct worker_instance *worker_instance;
	struct pool_data *sdata;
	bool last; /* a comment that says client->diff = 1 is no code */
};

struct pool_data {
	char lastswaphash[68];
	struct genwork *current_workbase;
	struct user_instance *only;
	struct {
		double network_diff;
	} stats;
};

/* What a miner sends, in place of JSON. */
struct submission {
	const char *workername, *job_id, *nonce, *nonce2, *ntime, *hash;
	double sdiff;
	uint32_t version_mask;
	bool duplicate;
};

static void add_base(struct genwork *wb, bool *new_block)
{
	struct pool_data *sdata = ckpool.sdata;

	*new_block = wb != sdata->current_workbase;
	sdata->current_workbase = wb;
	sdata->stats.network_diff = wb->network_diff;
}

static void block_update(struct genwork *wb)
{
	struct pool_data *sdata = ckpool.sdata;
	bool new_block;

	if (wb->proxy)
		return;
	add_base(wb, &new_block);
	if (new_block)
		LOGNOTICE("The tip is %s now", sdata->lastswaphash);
}

static int solved, counted;

static void block_solve(const char *which)
{
	solved += *which != '\0';
}

static void block_reject(const char *which)
{
	LOGINFO("%s was refused", which);
}

/* Not a miner's of ours: must stay without a hook. */
static void submit_node_block(bool good)
{
	if (good)
		block_solve("a node's");
	else
		block_reject("a node's");
}

static void __kill_instance(struct pool_data *sdata, struct stratum_instance *client)
{
	if (sdata != ckpool.sdata)
		return;
	free(client->useragent), free(client->workername);
	*client = (struct stratum_instance){ .id = 0 };
}

/* Must stay without a hook, too. */
static void parse_diff(struct stratum_instance *client, double from_upstream)
{
	client->diff = from_upstream;
}

static void client_auth(struct stratum_instance *client, struct user_instance *user, bool granted)
{
	if (!granted) {
		client->reject++;
	} else {
		client->authorised = granted;
		user->authorised |= granted;
	}
}

static void add_submit(struct stratum_instance *client, double diff, bool valid)
{
	struct user_instance *user = client->user_instance;
	int64_t wanted = 2 * client->diff;

	counted++;
	LOGINFO("A share of %s", user->username);
	if (valid && diff == (double)client->diff && wanted > 1023) {
		client->old_diff = wanted / 2;
		client->diff = wanted;
	}
}

/* As upstream does it: the submission is one branch of an `if` that the
 * preprocessor cuts in two, and the solution another, without braces. */
static void test_blocksolve(const struct stratum_instance *client, const struct genwork *wb,
			    double diff, const char *nonce, const char *blockhash)
{
	bool taken;

	if (diff < wb->network_diff)
		return;
	LOGNOTICE("Client %"PRId64" may have solved %s", client->id, blockhash);
#ifdef HAVE_CAPNP
	if (wb->ipc)
		taken = submit_over_ipc(wb);
	else
#endif
		taken = strncmp(nonce, "bad", 3) != 0;
	if (taken)
		block_solve(blockhash);
	else
		block_reject(blockhash);
}

#ifdef WITH_SV2
void stratifier_sv2_set_diff(struct stratum_instance *client, int64_t wanted);

void stratifier_sv2_set_diff(struct stratum_instance *client, int64_t wanted)
{
	if (wanted > 0)
		client->diff = wanted;
}
#endif

static bool parse_submit(struct stratum_instance *client, const struct submission *sent,
			 enum share_err *why)
{
	struct user_instance *user = client->user_instance;
	struct pool_data *sdata = client->sdata;
	const char *job_id, *nonce, *nonce2, *ntime;
	bool share = false, result = false;
	enum share_err err = SE_NONE;
	uint32_t version_mask32 = 0;
	double diff = client->diff;
	double sdiff = -1;
	char hexhash[68] = "";

	if (!*sent->workername) {
		err = SE_NO_USERNAME;
		goto out;
	}
	share = true;
	if (!sdata->current_workbase) {
		err = SE_NO_WORKBASE;
		*why = err;
		return result;
	}
	job_id = sent->job_id;
	ntime = sent->ntime;
	nonce = sent->nonce;
	nonce2 = sent->nonce2;
	version_mask32 = sent->version_mask;
	if (!strcmp(job_id, "unheard of")) {
		err = SE_INVALID_JOBID;
	} else {
		strcpy(hexhash, sent->hash);
		sdiff = sent->sdiff;
		test_blocksolve(client, sdata->current_workbase, sdiff, nonce, hexhash);
		if (sdiff < diff)
			err = SE_HIGH_DIFF;
		else if (sent->duplicate)
			err = SE_DUPE;
		else
			result = true;
	}
	add_submit(client, diff, result);
	LOGINFO("%s at %s: %s %s", user->username, ntime, nonce2, hexhash);
out:
	if (!result || !share) {
		client->old_diff = client->diff;
	} else if (client->idle) {
		client->idle = false;
	}
	if (!share)
		LOGINFO("That was no share, client %"PRId64, client->id);
	*why = err;
	return result;
}

static void suggest_diff(struct stratum_instance *client, const char *method, int64_t wish)
{
	if (!client->authorised || strcmp(method, "mining.suggest_difficulty"))
		return;
	client->suggest_diff = wish;
	if (wish != client->diff)
		client->diff = wish;
}

static void sauth_process(struct stratum_instance *client)
{
	int64_t least = client->worker_instance->mindiff;

	client_auth(client, client->user_instance, true);
	if (least > client->diff) {
		client->diff = least;
		LOGINFO("At least %"PRId64, least);
	}
}

/* The same line as in statsupdate(), where it must stay alone. */
static double worker_stats(const struct worker_instance *worker)
{
	double ghs;

	ghs = worker->dsps10080 * nonces;
	return ghs;
}

static void *statsupdate(void *arg)
{
	struct pool_data *sdata = ckpool.sdata;
	struct worker_instance *worker;
	struct user_instance *user;
	int round = 0;
	double ghs;

	while (round < 1) {
		user = sdata->only;
		ghs = user->dsps10080 * nonces;
		LOGINFO("Round %d: %f", round++, ghs);
		for (worker = user->first; worker; worker = worker->next) {
			ghs = worker->dsps10080 * nonces;
			LOGINFO("%s: %f, %f", worker->workername, ghs, worker_stats(worker));
		}
	}
	return arg;
}

static void *stratifier(void *arg)
{
	struct pool_data *sdata = calloc(1, sizeof(*sdata));

	ckpool.sdata = sdata;
	LOGNOTICE("%s begins", ckpool.name);
	return arg;
}
