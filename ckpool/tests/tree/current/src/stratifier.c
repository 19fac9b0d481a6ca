/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* A pool in miniature; see ckpool.h. What upstream's text has that is hard to
 * read for a machine stands here too: comments in UTF-8 (≤ 8 B, “so”, … — and
 * names like “Kőnig”), the elvis operator, labels, loops by macro within each
 * other, attributes before arguments, an `if` that the preprocessor cuts. */

#include "bitcoin.h"
#include "ckpool.h"
#include "libckpool.h"
#include "stratifier.h"

static const double nonces = 0x1p32;

typedef struct pool_data pool_data_t;

struct user_instance {
	UT_hash_handle hh;
	_Atomic bool authorised;
	char username[128];
	double best_ever;
	struct worker_instance *worker_instances;
	double dsps1, dsps5, dsps60, dsps1440, dsps10080;
};

struct worker_instance {
	char *workername;
	struct worker_instance *next;
	int64_t mindiff;
	double best_ever;
	double dsps1, dsps5, dsps60, dsps1440, dsps10080;
};

struct stratum_instance {
	UT_hash_handle hh;
	int64_t id, diff, old_diff, suggest_diff;
	double rejects;
	int reject;
	bool authorised, remote, idle;
	time_t start_time;
	char address[46];
	char *workername, *useragent;
	struct user_instance *user_instance;
	struct worker_instance *worker_instance;
	pool_data_t *sdata;
	struct stratum_instance *subclients;
	bool last; /* a comment that says client->diff = 1 is no code */
};

struct pool_data {
	char lastswaphash[68];
	struct genwork *current_workbase;
	struct user_instance *user_instances;
	int instance_lock;
	_Atomic int shares;
	struct {
		double network_diff;
		_Atomic int64_t unaccounted_rejects;
	} stats;
};

/* What a miner sends, in place of JSON; `hash` is in the order that explorers
 * show, and `header` what has that hash. */
struct submission {
	const char *workername, *job_id, *nonce, *nonce2, *ntime, *hash, *header, *coinbase;
	double sdiff;
	uint32_t version_mask;
	bool duplicate;
};

static void add_base(pool_data_t *sdata, struct genwork *wb, bool *new_block)
{
	*new_block = wb != sdata->current_workbase;
	sdata->current_workbase = wb;
	/* Upstream's own floor: a block never needs less than difficulty 1. */
	if (wb->network_diff < 1)
		wb->network_diff = 1;
	sdata->stats.network_diff = wb->network_diff;
}

static void block_update(__maybe_unused pool_data_t *unused, struct genwork *wb)
{
	pool_data_t *sdata = ckpool.sdata;
	bool found = false, new_block;
	int tries = 0;

retry:
	if (unlikely(!wb)) {
		if (tries++ < 2)
			goto retry;
		LOGWARNING("No work after %d tries, and 100%% of nothing", tries);
		goto out;
	}
	if (wb->proxy)
		goto out;
	add_base(sdata, wb, &new_block);
	if (new_block)
		LOGNOTICE("The tip is %s now", sdata->lastswaphash);
	found = true;
out:
	LOGDEBUG("%s, looked for by %s", found ? "Work" : "None", ckpool.name ? : "nobody");
}

static _Atomic int solved, counted;

static void block_solve(const char *which)
{
	solved += *which != '\0';
}

static void block_reject(const char *which)
{
	LOGINFO("%s was refused", which);
}

/* Not a miner's of ours: must stay without a hook. */
static void submit_node_block(__maybe_unused pool_data_t *sdata, bool good)
{
	if (good)
		block_solve("a node's");
	else
		block_reject("a node's");
}

static void __kill_instance(pool_data_t *sdata, struct stratum_instance *client)
{
	if (sdata != ckpool.sdata)
		return;
	free(client->useragent), free(client->workername);
	memset(client, 0, sizeof(struct stratum_instance));
}

/* Who hangs on a connection goes with it. */
static void drop_subclients(pool_data_t *sdata, struct stratum_instance *client)
{
	struct stratum_instance *sub, *tmp;

	HASH_ITER(hh, client->subclients, sub, tmp) {
		__kill_instance(sdata, sub);
	}
}

/* A connection whose number was taken in the meantime: never authorised. */
static void add_instance_once(pool_data_t *sdata, struct stratum_instance *client,
			      bool taken)
{
	if (taken)
		__kill_instance(sdata, client);
}

/* Must stay without a hook, too. */
static void parse_diff(struct stratum_instance *client, double from_upstream)
{
	client->diff = from_upstream;
}

static void client_auth(struct stratum_instance *client, struct user_instance *user,
			bool granted)
{
	if (!granted) {
		client->reject++;
	} else {
		client->authorised = granted;
		user->authorised |= granted;
	}
}

/* Sums stay far below what an int64_t holds: casting more traps. */
static void account_client_share(pool_data_t *sdata, double diff, bool valid)
{
	if (valid)
		sdata->shares++;
	else if (diff < 1e15)
		sdata->stats.unaccounted_rejects += (int64_t)diff;
}

static void add_submit(struct stratum_instance *client, const double diff, const bool valid,
		       __maybe_unused const bool submit)
{
	struct user_instance *user = client->user_instance;
	pool_data_t *sdata = client->sdata;
	int64_t optimal = 2 * client->diff;

	counted++;
	account_client_share(sdata, diff, valid);
	LOGINFO("A share of %s", user->username);
	if (valid && diff == (double)client->diff && optimal > 1023) {
		client->old_diff = optimal / 2;
		client->diff = optimal;
	}
}

/* As the node gets it: the bytes of each word change places, the words do not. */
static void process_block(const uchar *hash, char *blockhash)
{
	uchar flip32[32];
	int i;

	for (i = 0; i < 32; i++)
		flip32[i] = hash[i / 4 * 4 + 3 - i % 4];
	__bin2hex(blockhash, flip32, 32);
}

/* As upstream does it: the submission is one branch of an `if` that the
 * preprocessor cuts in two, and the solution another, without braces. */
static void test_blocksolve(const struct stratum_instance *client, const struct genwork *wb,
			    double diff, const char *nonce, const char *nonce2,
			    const uchar *hash, const uchar *data, const char *coinbase, int cblen,
			    uint32_t ntime32, bool stale)
{
	char blockhash[68];
	bool taken;

	if (diff < 0.999 * wb->network_diff)
		return;
	LOGWARNING("Client %"PRId64" may have solved %s work: %f, %s, %p, %p, %d bytes, %u",
		   client->id, stale ? "old" : "new", diff, nonce2, (const void *)data,
		   (const void *)coinbase, cblen, ntime32);
	process_block(hash, blockhash);
#ifdef HAVE_CAPNP
	if (wb->ipc) {
#ifdef DEBUG_IPC
		LOGDEBUG("%p and %p", data, coinbase);
#endif
		taken = submit_over_ipc(wb, data, coinbase);
	} else
#endif
		taken = submit_block(nonce);
	if (taken)
		block_solve(blockhash);
	else
		block_reject(blockhash);
}

/* How good the submission is. The coinbase is on the stack and the work may be
 * released soon after — who wants to keep them must copy them here. */
static double submission_diff(const struct stratum_instance *client, const struct genwork *wb,
			      const struct submission *sent, const char *nonce,
			      const char *nonce2, uint32_t ntime32, bool stale, uchar *hash)
{
	uchar swap[80];
	char data[80], *coinbase;
	double ret;
	int i, cblen;

	coinbase = alloca(strlen(sent->coinbase) / 2 + 1);
	cblen = hex2bin((uchar *)coinbase, sent->coinbase, strlen(sent->coinbase) / 2);
	hex2bin(swap, sent->header, 80);
	for (i = 0; i < 80; i++)
		data[i / 4 * 4 + 3 - i % 4] = swap[i];
	hex2bin(hash, sent->hash, 32);
	bswap_256(hash);
	ret = sent->sdiff;
	LOGDEBUG("%d in its own order, %d swapped", swap[0], data[3]);

	test_blocksolve(client, wb, ret, nonce, nonce2, hash, swap, coinbase, cblen, ntime32, stale);

	return ret;
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
			 enum share_err *err_code)
{
	struct user_instance *user = client->user_instance;
	pool_data_t *sdata = client->sdata;
	const char *job_id, *nonce2, *ntime;
	char *nonce;
	bool share = false, result = false, submit = false;
	bool stale = sent->job_id[0] == '5';
	enum share_err err = SE_NONE;
	uint32_t ntime32, version_mask32 = 0;
	double diff = client->diff;
	double sdiff = -1;
	char hexhash[68] = "", *file = NULL;
	struct genwork *wb;
	uchar hash[32];

	if (!*sent->workername) {
		err = SE_NO_USERNAME;
		goto out;
	}
	nonce = (char *)sent->nonce;
	if (unlikely(!nonce || strlen(nonce) < 8)) {
		err = SE_NO_NONCE;
		goto out;
	}
	share = true;
	if (!sdata->current_workbase) {
		err = SE_NO_WORKBASE;
		*err_code = err;
		return result;
	}
	job_id = sent->job_id;
	ntime = sent->ntime;
	nonce2 = sent->nonce2;
	version_mask32 = sent->version_mask;
	ntime32 = (uint32_t)strtoul(ntime, NULL, 16);
	file = strdup(ckpool.logdir ? : "/dev/null");

	if (!strcmp(job_id, "unheard of")) {
		err = SE_INVALID_JOBID;
		goto out_nowb;
	}
	wb = sdata->current_workbase;
	sdiff = submission_diff(client, wb, sent, nonce, nonce2, ntime32, stale, hash);
	bswap_256(hash);
	__bin2hex(hexhash, hash, 32);
	if (stale) {
		err = SE_STALE;
		goto out_submit;
	}
	switch (sent->job_id[0]) {
		int far;

	case '7':
		fallthrough;
	case '8':
		far = ntime32 > 0x70000000;
		if (far) {
			err = SE_NTIME_INVALID;
			goto out_put;
		}
		break;
	default:
		LOGDEBUG("The mask is %x", version_mask32);
	}
out_submit:
	if (sdiff >= wb->network_diff)
		submit = true;
out_put:
	wb = NULL;
out_nowb:
	/* Good enough for what was asked — or not… */
	if (!err && sdiff >= diff) {
		if (!sent->duplicate) {
			LOGINFO("Good, %"PRId64": %.1f of %.0f, %s", client->id, sdiff, diff,
				hexhash);
			result = true;
		} else {
			err = SE_DUPE;
			submit = false;
		}
	} else if (!err) {
		err = SE_HIGH_DIFF;
		submit = false;
	}

	add_submit(client, diff, result, submit);
	LOGINFO("%s at %s: %s %s", user->username, ntime, nonce2, file ? : "no file");
out:
	if (!result || !share) {
		client->old_diff = client->diff;
	} else if (client->idle) {
		client->idle = false;
	}

	if (!share)
		LOGINFO("That was no share, client %"PRId64, client->id);
	free(file);
	*err_code = err;
	return result;
}

static void suggest_diff(struct stratum_instance *client, const char *method, int64_t sdiff)
{
	if (!client->authorised || safecmp(method, "mining.suggest_difficulty"))
		return;
	/* What no hardware reaches overflows sums. */
	if (unlikely(sdiff > 1000000000000000))
		return;
	client->suggest_diff = sdiff;
	if (sdiff == client->diff)
		return;
	client->diff = sdiff;
}

static void sauth_process(struct stratum_instance *client)
{
	int64_t mindiff = client->worker_instance->mindiff;

	client_auth(client, client->user_instance, true);
	if (mindiff > client->diff) {
		client->diff = mindiff;
		LOGINFO("At least %"PRId64, mindiff);
	}
}

/* The same line as in statsupdate(), where it must stay alone. */
static double worker_stats(const struct worker_instance *worker)
{
	double ghs;

	ghs = worker->dsps10080 * nonces;
	return ghs;
}

static void *statsupdate(__maybe_unused void *arg)
{
	pool_data_t *sdata = ckpool.sdata;
	int round = 0;

	for (;;) {
		struct user_instance *user, *after;
		double ghs;

		ck_rlock(&sdata->instance_lock);
		HASH_ITER(hh, sdata->user_instances, user, after) {
			struct worker_instance *worker;

			if (!user->authorised)
				continue;
			ghs = user->dsps1 * nonces;
			ghs = user->dsps10080 * nonces;
			LOGINFO("Round %d: %f", round, ghs);
			DL_FOREACH(user->worker_instances, worker) {
				ghs = worker->dsps1 * nonces;
				ghs = worker->dsps10080 * nonces;
				LOGINFO("%s: %f, %f", worker->workername, ghs,
					worker_stats(worker));
			}
		}
		ck_runlock(&sdata->instance_lock);
		if (++round)
			break;
	}
	return NULL;
}

void *stratifier(__maybe_unused void *arg)
{
	pool_data_t *sdata = calloc(1, sizeof(pool_data_t));

	ckpool.sdata = sdata;
	LOGNOTICE("%s begins", ckpool.name);
	return NULL;
}

/* What follows names the pool as ckp, too: in the older shapes that is how it is reached. */

/* The text after a key, up to the next quote. */
static void param(const char *line, const char *key, char *to)
{
	const char *at = strstr(line, key);

	*to = '\0';
	if (at)
		sscanf(at + strlen(key), "%63[^\"]", to);
}

static struct stratum_instance *connection_of(const char *workername, const char *address)
{
	__maybe_unused ckpool_t *ckp = &ckpool;
	struct stratum_instance *client = calloc(1, sizeof(*client));
	struct user_instance *user = calloc(1, sizeof(*user));
	struct worker_instance *worker = calloc(1, sizeof(*worker));
	pool_data_t *sdata = ckpool.sdata;
	static _Atomic int64_t ids;

	snprintf(user->username, sizeof(user->username), "%.*s", (int)strcspn(workername, "._"),
		 workername);
	worker->workername = strdup(workername);
	user->worker_instances = worker;
	*client = (struct stratum_instance){
		.id = ++ids, .diff = 1, .start_time = time(NULL), .workername = strdup(workername),
		.user_instance = user, .worker_instance = worker, .sdata = sdata };
	snprintf(client->address, sizeof(client->address), "%s", address);
	return client;
}

void stratum_work(struct genwork *wb)
{
	__maybe_unused ckpool_t *ckp = &ckpool;
	pool_data_t *sdata = ckpool.sdata;
	char *tip = sdata->lastswaphash;

	snprintf(tip, sizeof(sdata->lastswaphash), "%064d", 101);
	block_update(sdata, wb);
}

static void end_of(struct stratum_instance *client)
{
	__maybe_unused ckpool_t *ckp = &ckpool;
	struct worker_instance *worker = client->worker_instance;
	struct user_instance *user = client->user_instance;

	__kill_instance(ckpool.sdata, client);
	free(worker->workername);
	free(worker);
	free(user);
	free(client);
}

void stratum_line(struct stratum_instance **connection, const char *address, const char *line,
		  char *answer, size_t size)
{
	__maybe_unused ckpool_t *ckp = &ckpool;
	char name[64], job[64], hash[65], header[161];
	enum share_err err = SE_NONE;
	bool good = false;

	if (!line) {
		if (*connection)
			end_of(*connection);
		return;
	}
	*answer = '\0';
	if (strstr(line, "mining.subscribe")) {
		snprintf(answer, size, "{\"id\":1,\"result\":[[[\"mining.notify\",\"1\"]],"
			 "\"00000001\",8],\"error\":null}\n");
		return;
	}
	param(line, "\"params\":[\"", name);
	if (strstr(line, "mining.authorize") && !*connection) {
		*connection = connection_of(name, address);
		sauth_process(*connection);
		good = true;
	} else if (strstr(line, "mining.submit") && *connection) {
		param(strstr(line, name), "\",\"", job);
		snprintf(hash, sizeof(hash), "%064lx", strtoul(job, NULL, 16));
		snprintf(header, sizeof(header), "%0160d", 0);
		good = parse_submit(*connection, &(struct submission){
			.workername = name, .job_id = job, .nonce = "7a1c03e2",
			.nonce2 = "0000000000000029", .ntime = "6920fd41", .hash = hash,
			.header = header, .coinbase = "01", .sdiff = 2 }, &err);
	}
	snprintf(answer, size, "{\"id\":1,\"result\":%s,\"error\":null}\n", good ? "true" : "false");
}
