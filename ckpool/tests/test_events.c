/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Every event through the whole module: from a call to a datagram, with
 * ckpool's floating-point traps set, hostile texts and impossible numbers. */

#define _GNU_SOURCE

#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <syslog.h>
#include <time.h>

#include "check.h"
#include "folder.h"
#include "receiver.h"
#include "tbg_events.h"
#include "tbg_proof.h"
#include "tbg_record.h"
#include "tbg_ring.h"
#include "tbg_settings.h"

#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
#define TIP "0000000000a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b"
#define HASH "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"

#define OTHER_WORDS "1111111122222222333333334444444455555555666666667777777788888888"
#define HASH_WORDS "08192a3bc4d5e6f78091a2b34c5d6e7f0e1f2a3b6b7a8c9d002d1f5e00000000"

static char text[TBG_DATAGRAM_MAX + 1];
static int fd;
static struct tbg_session session;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_lines[65536];

__attribute__((format(printf, 2, 3)))
static void keep(int level, const char *format, ...)
{
	va_list list;
	size_t length;

	if (level > LOG_NOTICE)
		return;
	pthread_mutex_lock(&log_lock);
	length = strlen(log_lines);
	va_start(list, format);
	vsnprintf(log_lines + length, sizeof(log_lines) - length, format, list);
	va_end(list);
	pthread_mutex_unlock(&log_lock);
}

static bool logged(const char *what)
{
	bool found;

	pthread_mutex_lock(&log_lock);
	found = strstr(log_lines, what) != NULL;
	pthread_mutex_unlock(&log_lock);
	return found;
}

/* The next datagram, waited for up to ten seconds. */
static const char *next(void)
{
	int tries;

	for (tries = 0; tries < 500; tries++) {
		if (receiver_next(fd, text))
			return text;
	}
	return "nothing came";
}

static bool says(const char *wanted)
{
	if (strstr(text, wanted))
		return true;
	printf("#    got %s\n# without %s\n", text, wanted);
	return false;
}

static struct tbg_share share(void)
{
	return (struct tbg_share){
		.user = USER, .workername = USER ".rig", .diff = 512, .share_diff = 4821.375,
		.valid = true, .reject_reason = "Valid", .job_id = "6920fd4000000003",
		.nonce = "7a1c03e2", .nonce2 = "0000000000000029", .ntime = "6920fd41",
		.hash = HASH, .ip = "192.0.2.17", .user_agent = "bitaxe", .client_id = 7,
		.version_bits = 0xc00000, .network_diff = 102289407543323.8,
	};
}

static void settings(void)
{
	char path[200];

	setenv("TBG_EVENTS_SOCKET", "", 1);
	check(!tbg_events_start("t", NULL, keep) && logged("TBG_EVENTS_SOCKET is empty"),
	      "an empty socket path turns events off and says so");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	setenv("TBG_EVENTS_SOCKET", path, 1);
	check(!tbg_events_start("t", NULL, keep) && logged("199 bytes long"),
	      "so does one too long for a socket");
	tbg_share_submitted(&session, &(struct tbg_share){ .valid = true });
	tbg_share_accepted(&session, USER, USER, 5, HASH);
	tbg_miner_connected(&(struct tbg_connected){ .user = USER });
	tbg_events_stop(10);
	check(session.accepted == 1, "calls do no harm while events are off");
	session.accepted = 0;
	setenv("TBG_EVENTS_SOURCE", "much too long a source", 1);
	setenv("TBG_EVENTS_EMIT", "share_submitted,shares", 1);
	setenv("TBG_EVENTS_RING", "many", 1);
}

/* A ring never takes more than a quarter of the memory that there is. */
static void bounds(void)
{
	static const struct {
		unsigned long long limit;
		size_t wanted, ring;
	} cases[] = {
		{ 0, 1048576, 1048576 },
		{ 9223372036854771712u, 1048576, 1048576 },
		{ 512ull << 20, 16384, 16384 },
		{ 512ull << 20, 1048576, 65536 },
		{ 64ull << 20, 16384, 1024 },
	};
	char path[64], file[100], large[200] = "";
	FILE *out;
	size_t i, ring;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ring = tbg_ring_within(cases[i].wanted, cases[i].limit, keep);
		check(ring == cases[i].ring, "of %zu events with %llu MiB at most %zu wait (%zu)",
		      cases[i].wanted, cases[i].limit >> 20, cases[i].ring, ring);
	}
	check(logged("TBG_EVENTS_RING 1048576 takes more than a quarter of the memory limit of 512 MiB: 65536"),
	      "which is said");
	check(tbg_ring_bytes(1048576, TBG_TEXT_AREA) == 960u << 20 &&
	      tbg_ring_bytes(65536, TBG_RATE_AREA) == 28u << 20, "the largest ring takes %zu MiB (%zu)", tbg_ring_bytes(1048576, TBG_TEXT_AREA) >> 20, tbg_ring_bytes(65536, TBG_RATE_AREA) >> 10);
	snprintf(path, sizeof(path), "/tmp/tbg-cgroup-%d", (int)getpid());
	mkdir(path, 0700);
	check(tbg_memory_limit(path) == 0, "no control group, no limit");
	snprintf(file, sizeof(file), "%s/memory.max", path);
	out = fopen(file, "w");
	fputs("max\n", out);
	fclose(out);
	check(tbg_memory_limit(path) == 0, "nor is 'max' one");
	out = fopen(file, "w");
	fputs("536870912\n", out);
	fclose(out);
	check(tbg_memory_limit(path) == 512u << 20, "a limit of version 2");
	unlink(file);
	snprintf(large, sizeof(large), "%s/memory", path);
	mkdir(large, 0700);
	snprintf(file, sizeof(file), "%s/memory/memory.limit_in_bytes", path);
	out = fopen(file, "w");
	fputs("268435456\n", out);
	fclose(out);
	check(tbg_memory_limit(path) == 256u << 20, "and of version 1");
	unlink(file);
	rmdir(large);
	rmdir(path);
}

/* ckpool's own threads handle its signals. */
static void signals(void)
{
	struct dirent *entry;
	char name[300], line[200];
	int blocked = 0, ours = 0;
	FILE *status;
	DIR *tasks = opendir("/proc/self/task");

	while ((entry = readdir(tasks)) != NULL) {
		bool is_ours = false;

		snprintf(name, sizeof(name), "/proc/self/task/%s/status", entry->d_name);
		status = fopen(name, "r");
		while (status && fgets(line, sizeof(line), status)) {
			if (!strncmp(line, "Name:", 5))
				is_ours = strstr(line, "tbg_") != NULL;
			/* SIGTERM is 15, SIGINT 2, SIGUSR1 10. */
			if (is_ours && !strncmp(line, "SigBlk:", 7))
				blocked += (strtoull(line + 7, NULL, 16) & 0x4202) == 0x4202;
		}
		if (status)
			fclose(status);
		ours += is_ours;
	}
	closedir(tasks);
	check(ours == 2 && blocked == 2, "the sender and the saver take no signals (%d of %d)", blocked,
	      ours);
}

static void shares(void)
{
	struct tbg_share one = share();

	tbg_share_submitted(&session, &one);
	next();
	check(says("\"event\":\"share_submitted\"") && says("\"seq\":12,") &&
	      says("\"instance\":\"eu1/") && says("\"source\":\"hosted\"") &&
	      says("\"worker\":\"rig\"") && says("\"difficulty\":512.0,") &&
	      says("\"share_diff\":4821.375,\"valid\":true,\"reject_reason\":null,") &&
	      says("\"nonce\":\"7a1c03e2\"") && says("\"version_bits\":\"00c00000\"") &&
	      says("\"network_difficulty\":102289407543323.8"), "an accepted share");
	one.valid = false;
	one.reject_reason = "Invalid JobID";
	one.share_diff = -1;
	one.hash = "";
	one.nonce = "7a1c03e2ffffffffffffffffffffffff";
	one.nonce2 = "odd";
	one.ip = "sv2";
	one.network_diff = 18446744073709551615.0;
	one.version_bits = 0;
	tbg_share_submitted(&session, &one);
	next();
	check(says("\"share_diff\":null,\"valid\":false,\"reject_reason\":\"Invalid JobID\"") &&
	      says("\"nonce\":null,\"nonce2\":null,\"ip\":\"0.0.0.0\"") && says("\"hash\":null") &&
	      !strstr(text, "network_difficulty") && !strstr(text, "version_bits"),
	      "a rejected share leaves out what is not what it should be");
	tbg_share_submitted(&session, &(struct tbg_share){ .user = USER, .diff = 1 });
	next();
	check(says("\"worker\":\"\"") && says("\"reject_reason\":\"unknown\",\"job_id\":null") &&
	      says("\"user_agent\":null"), "a malformed one has next to nothing");
	check(session.accepted == 1 && session.rejected == 2, "the session counts them");
}

/* What firmware sends, and what no firmware should: an accepted share has what
 * the contract requires, so that it ends in no dead-letter stream. */
static void forms(void)
{
	static const struct {
		const char *nonce, *nonce2, *ntime, *said;
	} cases[] = {
		{ "1ec4", "00000029", "6920fd41", "\"nonce\":\"00001ec4\",\"nonce2\":\"00000029\"" },
		{ "1", "1", "1", "\"nonce\":\"00000001\",\"nonce2\":\"01\"" },
		{ "abc", "123", "920fd41", "\"nonce\":\"00000abc\",\"nonce2\":\"0123\"" },
		{ "7A1C03E2", "2a", "6920fd41", "\"nonce\":\"7A1C03E2\",\"nonce2\":\"2a\"" },
		{ "123456789", "0a", "0006920fd41", "\"nonce\":\"0123456789\",\"nonce2\":\"0a\"" },
		{ "0x1ec4", "2a;", "later", "\"nonce\":\"00000000\",\"nonce2\":\"2a\"" },
		{ "", "", "", "\"nonce\":\"00000000\",\"nonce2\":\"00\"" },
		{ NULL, NULL, NULL, "\"nonce\":\"00000000\",\"nonce2\":\"00\"" },
		{ "12345678" "12345678" "1", "12345678" "12345678" "12345678" "12345678" "12345678"
		  "12345678" "12345678" "12345678" "1", NULL,
		  "\"nonce\":\"1234567812345678\",\"nonce2\":\"12345678" "12345678" "12345678"
		  "12345678" "12345678" "12345678" "12345678" "12345678\"" },
	};
	struct tbg_share one;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		one = share();
		one.nonce = cases[i].nonce;
		one.nonce2 = cases[i].nonce2;
		one.ntime = cases[i].ntime;
		tbg_share_submitted(&session, &one);
		next();
		check(says(cases[i].said), "an accepted share of nonce %s, nonce2 %s",
		      cases[i].nonce ? cases[i].nonce : "NULL",
		      cases[i].nonce2 ? cases[i].nonce2 : "NULL");
	}
	one = share();
	one.nonce = "1ec4";
	one.ntime = "920fd41";
	one.job_id = NULL;
	one.share_diff = -1;
	tbg_share_submitted(&session, &one);
	next();
	check(says("\"ntime\":\"0920fd41\"") && says("\"job_id\":\"\"") &&
	      says("\"difficulty\":512.0,\"share_diff\":512.0"),
	      "nor is an accepted one without job or achieved difficulty");
	one.valid = false;
	one.nonce2 = "odd";
	tbg_share_submitted(&session, &one);
	next();
	check(says("\"nonce\":\"00001ec4\",\"nonce2\":null") && says("\"job_id\":null") &&
	      says("\"share_diff\":null"), "a rejected one leaves out what is unknown");
	session.accepted = session.rejected = 0;
}

static void hostile(void)
{
	struct tbg_share one = share();
	char long_name[4000], agent[4000];

	memset(long_name, 1, sizeof(long_name));
	memcpy(long_name, USER ".", sizeof(USER));
	long_name[sizeof(long_name) - 1] = '\0';
	memset(agent, 0xe2, sizeof(agent));
	agent[sizeof(agent) - 1] = '\0';
	one.workername = long_name;
	one.user_agent = agent;
	tbg_share_submitted(&session, &one);
	next();
	check(strlen(text) < TBG_DATAGRAM_MAX && says("\"worker\":\"\\u0001") &&
	      says("\"network_difficulty\"") && text[strlen(text) - 1] == '}',
	      "long names of control bytes and broken UTF-8 give a whole datagram of %zu bytes",
	      strlen(text));
	one.workername = USER "_a\"b\\c.\xff";
	one.user_agent = "cut in the \xe2\x82";
	tbg_share_submitted(&session, &one);
	next();
	check(says("\"worker\":\"a\\\"b\\\\c.\xef\xbf\xbd\""), "quotes and broken UTF-8 are escaped");
}

static void bests(void)
{
	struct tbg_session other = { 0 };

	tbg_miner_connected(&(struct tbg_connected){
		.user = USER, .workername = USER, .ip = "2001:db8::1", .user_agent = "cgminer",
		.protocol = "stratum_v1", .client_id = 8, .diff = 16, .best_ever = 1000, .session = &session });
	next();
	check(says("miner_connected") && says("\"worker\":\"\"") && says("\"ip\":\"2001:db8::1\"") &&
	      says("\"initial_diff\":16.0") && says("\"protocol\":\"stratum_v1\""), "a connection");
	tbg_share_accepted(&session, USER, USER ".rig", 900, HASH);
	next();
	check(says("share_best_diff") && says("\"period\":\"session\"") &&
	      says("\"previous_best_diff\":0.0"), "a first share is the session's best");
	next();
	check(says("\"period\":\"week\"") && says("\"week\":\"20") && says("\"week_shares\":1") &&
	      says("\"hash\":\"" HASH "\""), "then the week's, and not the all-time best");
	tbg_share_accepted(&other, USER, USER ".two", 1500.5, HASH);
	next();
	check(says("\"period\":\"session\"") && says("\"previous_best_diff\":0.0") &&
	      says("\"worker\":\"two\""), "another session has a best of its own");
	next();
	check(says("\"period\":\"week\"") && says("\"previous_best_diff\":900.0"),
	      "the week is the user's");
	next();
	check(says("\"period\":\"alltime\"") && says("\"previous_best_diff\":1000.0") &&
	      says("\"new_best_diff\":1500.5"), "the all-time best comes from ckpool's records");
	tbg_share_accepted(&session, USER, USER ".rig", 899, HASH);
	tbg_miner_disconnected(&session, &(struct tbg_disconnected){
		.user = USER, .workername = USER ".rig", .ip = "192.0.2.17", .client_id = 7,
		.since = (int64_t)(time(NULL) - 60) * 1000000 });
	next();
	check(says("miner_disconnected") && says("\"session_duration\":6") &&
	      says("\"shares_accepted\":3,\"shares_rejected\":2,\"best_diff_session\":900.0") &&
	      says("\"reason\":null"),
	      "a share that breaks nothing is silent; a disconnection sums the session up");
}

static void blocks(void)
{
	struct tbg_block block = {
		.user = USER, .workername = USER ".rig", .hash_words = HASH_WORDS,
		.nonce = "7a1c03e2",
		.coinbase_sig = "/TheBitcoinGame/",
		.prev_words = "18192a3bd5e6f7078091b2c34c5d6e7f0e1f2a3b6b7a8c9d002d1f5e00000000",
		.height = 868001, .reward = 318750000, .halving = 210000,
		.share_diff = 121500000000000.5, .network_diff = 102289407543323.8,
	};

	tbg_block_found(&block);
	next();
	check(says("block_found") && says("\"height\":868001") && says("\"hash\":\"" HASH "\"") && says("\"fees_sats\":6250000") &&
	      says("\"prev_hash\":\"00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091b2c3d5e6f70718192a3b\"") &&
	      says("\"coinbase_sig\":\"/TheBitcoinGame/\""), "a block, fees worked out");
	tbg_block_found(&block);
	block.hash_words = "11" "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a";
	block.height = 151;
	block.halving = 150;
	block.reward = 2500000000;
	tbg_block_found(&block);
	next();
	check(says("\"height\":151") && says("\"fees_sats\":0,"),
	      "the same block again is silent, the next is not");
	tbg_new_block_network(&(struct tbg_tip){ .hash = HASH, .height = 868000,
						 .network_diff = 1 });
	next();
	check(says("\"data\":{\"height\":868000,\"hash\":\"" HASH "\",\"network_difficulty\":1.0}"),
	      "a new tip");
}

/* A share's proof goes with what it broke, and with nothing else. */
static void proofs(void)
{
	unsigned char hash[32], header[TBG_HEADER], coinbase[TBG_PROOF_MAX], branch[TBG_BRANCH_MAX][32];
	struct tbg_session other = { 0 };
	char hexhash[65], words[65], worker[200];
	struct tbg_counts counts;
	int i, branches, most;

	for (i = 0; i < 32; i++)
		hash[i] = (unsigned char)(3 * i + 1);
	for (i = 0; i < 32; i++)
		sprintf(hexhash + 2 * i, "%02x", hash[31 - i]);
	for (i = 0; i < 32; i++)
		sprintf(words + 2 * i, "%02x", hash[i / 4 * 4 + 3 - i % 4]);
	memset(header, 0xab, sizeof(header));
	memset(coinbase, 0xcd, sizeof(coinbase));
	memset(branch, 0xef, sizeof(branch));
	memset(worker, 1, sizeof(worker));
	memcpy(worker, USER ".", sizeof(USER));
	worker[sizeof(worker) - 1] = '\0';

	for (branches = 0; branches <= TBG_BRANCH_MAX; branches += TBG_BRANCH_MAX) {
		most = TBG_PROOF_MAX - TBG_HEADER - 32 * branches;
		tbg_share_proof(hash, header, coinbase, most, branch, branches);
		tbg_share_accepted(&other, "prover", worker, 10 + branches, hexhash);
		next();
		check(!strstr(text, "proof"), "a session's best has no proof");
		next();
		check(says("\"period\":\"week\"") && says("\"proof\":{\"header\":\"abab") &&
		      strlen(text) < TBG_DATAGRAM_MAX &&
		      strlen(strstr(text, "\"proof\"")) < 4096,
		      "a week's best has, the largest of %d branches (%zu of %zu bytes)", branches,
		      strlen(strstr(text, "\"proof\"")), strlen(text));
		next();
		check(says("\"period\":\"alltime\"") && says("cdcd\"}}}"), "so has an all-time best");
		tbg_share_proof(hash, header, coinbase, most + 1, branch, branches);
		tbg_share_accepted(&other, "prover", USER, 11 + branches, hexhash);
		next();
		next();
		check(says("\"week\"") && !strstr(text, "proof"), "one byte more is left out");
		next();
	}
	tbg_share_proof(hash, header, coinbase, 200, branch, 3);
	tbg_share_accepted(&other, "prover", USER, 1000, HASH);
	next();
	next();
	check(says("\"week\"") && !strstr(text, "proof"), "another share's proof is not taken for this one's");
	next();
	tbg_block_found(&(struct tbg_block){ .user = USER, .hash_words = words, .share_diff = 1,
					     .network_diff = 1 });
	next();
	check(says("block_found") && says(hexhash) && says("\"proof\":{"), "a block has its share's proof");
	tbg_share_proof(hash, header, coinbase, 0, branch, 3);
	tbg_share_proof(hash, header, NULL, 5, branch, 3);
	tbg_share_proof(hash, header, coinbase, -5, branch, 3);
	tbg_share_proof(hash, header, coinbase, 200, branch, -1);
	tbg_share_proof(hash, header, coinbase, 200, branch, TBG_BRANCH_MAX + 1);
	tbg_share_accepted(&other, "prover", USER, 2000, hexhash);
	next();
	next();
	check(says("\"week\"") && !strstr(text, "proof"), "parts that make no sense are no proof");
	next();
	for (i = 0; i < 3 * TBG_PROOFS; i++) {
		tbg_share_proof(hash, header, coinbase, 200, branch, 3);
		tbg_share_accepted(&other, "prover", USER, 3000 + i, hexhash);
		next();
		next();
		if (!strstr(text, "proof"))
			break;
		next();
	}
	tbg_events_counts(&counts);
	check(i == 3 * TBG_PROOFS && !counts.proofs_left_out, "places are used again and again");
	for (i = 0; i < 2 * TBG_PROOFS; i++) {
		tbg_share_proof(hash, header, coinbase, 200, branch, 3);
		tbg_share_accepted(&other, "prover", USER, 90000 + i, hexhash);
	}
	for (i = branches = 0; i < 6 * TBG_PROOFS && strstr(next(), "{\"event\""); i++)
		branches += strstr(text, "\"proof\"") != NULL;
	tbg_events_counts(&counts);
	check(i == 6 * TBG_PROOFS && counts.proofs_left_out > 0 &&
	      branches == 4 * TBG_PROOFS - (int)counts.proofs_left_out,
	      "when too many wait, bests go without, and it is counted (%llu)",
	      (unsigned long long)counts.proofs_left_out);
}

/* The hash of the share is the block's, whatever ckpool's text says. */
static void block_hashes(void)
{
	unsigned char hash[32], header[TBG_HEADER] = { 0 };
	struct tbg_counts before, after;
	struct tbg_share one = share();
	char hexhash[65], words[65];
	int i;

	for (i = 0; i < 32; i++)
		hash[i] = (unsigned char)(7 * i + 2);
	for (i = 0; i < 32; i++)
		sprintf(hexhash + 2 * i, "%02x", hash[31 - i]);
	for (i = 0; i < 32; i++)
		sprintf(words + 2 * i, "%02x", hash[i]);
	tbg_events_counts(&before);
	tbg_share_proof(hash, header, "coinbase", 8, NULL, 0);
	/* In wire order, which no upstream uses. */
	tbg_block_found(&(struct tbg_block){ .user = USER, .hash_words = words, .share_diff = 1,
					     .network_diff = 1 });
	next();
	tbg_events_counts(&after);
	check(says("block_found") && says(hexhash) && says("\"proof\":{") &&
	      after.mismatches == before.mismatches + 1,
	      "a text of a block's hash in another order is not believed, and counted");
	hash[0]++;
	sprintf(hexhash + 62, "%02x", hash[0]);
	tbg_share_proof(hash, header, NULL, 0, NULL, 0);
	tbg_block_found(&(struct tbg_block){ .user = USER, .hash_words = OTHER_WORDS, .share_diff = 1,
					     .network_diff = 1 });
	next();
	check(says(hexhash) && !strstr(text, "proof"), "also where the proof is too large");
	tbg_share_submitted(&session, &one);
	next();
	tbg_block_found(&(struct tbg_block){ .user = USER, .hash_words = HASH_WORDS, .share_diff = 1,
					     .network_diff = 1 });
	tbg_block_found(&(struct tbg_block){ .user = USER,
		.hash_words = "0000000a" "0000000b" "0000000c" "0000000d" "0000000e" "0000000f" "00000010" "00000011",
		.share_diff = 1, .network_diff = 1 });
	next();
	check(says("\"hash\":\"0000001100000010" "0000000f0000000e" "0000000d0000000c" "0000000b0000000a\""),
	      "but a share that had its verdict says nothing of the next block");
	tbg_block_refused(&(struct tbg_block){ .user = USER, .hash_words = HASH, .share_diff = 1,
					       .network_diff = 1 });
	tbg_block_asked();
	tbg_block_answered();
	tbg_block_refused(&(struct tbg_block){ .user = USER, .hash_words = HASH, .share_diff = 1,
					       .network_diff = 1 });
	tbg_block_asked();
	tbg_block_refused(&(struct tbg_block){ .user = USER, .hash_words = HASH, .share_diff = 3,
					       .network_diff = 1 });
	next();
	check(says("\"difficulty\":3.0"), "a refusal is a block only where the node gave no answer");
	tbg_block_refused(&(struct tbg_block){ .user = USER, .share_diff = 1, .network_diff = 1,
		.hash_words = "0000000a" "0000000b" "0000000c" "0000000d" "0000000e" "0000000f" "00000010" "00000012" });
}

static void rates(void)
{
	tbg_hashrate_update(&(struct tbg_hashrate){ .user = USER, .dsps_1m = 0.5, .dsps_5m = 1,
						    .dsps_1h = 2, .dsps_24h = 0 });
	next();
	check(says("\"worker\":\"\",\"hashrate_1m\":2147483648.0,\"hashrate_5m\":4294967296.0,"
		   "\"hashrate_1h\":8589934592.0,\"hashrate_24h\":0.0"), "a user's total, in H/s");
	tbg_hashrate_update(&(struct tbg_hashrate){ .user = USER, .workername = USER });
	tbg_hashrate_update(&(struct tbg_hashrate){ .user = USER, .workername = USER ".rig" });
	next();
	check(says("\"worker\":\"rig\""), "a worker without a name is not taken for the total");
	tbg_diff_updated(&(struct tbg_diff){ .user = USER, .workername = USER, .client_id = 7,
					     .old_diff = 1, .new_diff = 512, .reason = "vardiff" });
	next();
	check(says("\"old_diff\":1.0,\"new_diff\":512.0,\"client_id\":7,\"reason\":\"vardiff\""),
	      "a difficulty change");
}

/* A receiver that has read everything dies before it has handed it on. */
static void death(const char *path)
{
	struct tbg_counts counts;
	long long seq, last = 0;
	bool in_row = true;

	tbg_events_counts(&counts);
	close(fd);
	unlink(path);
	fd = receiver_open(path);
	tbg_diff_updated(&(struct tbg_diff){ .user = USER, .workername = USER, .client_id = 7,
					     .old_diff = 1, .new_diff = 77, .reason = "vardiff" });
	while (strstr(next(), "{\"event\"")) {
		seq = number_after(text, "\"seq\":");
		in_row = in_row && seq == last + 1;
		last = seq;
		if (strstr(text, "\"new_diff\":77.0"))
			break;
	}
	check(in_row && last == (long long)counts.emitted + 1,
	      "a new receiver gets again what the old one had read (up to %lld)", last);
}

static void impossible(void)
{
	static const double numbers[] = { NAN, -NAN, INFINITY, -INFINITY, 5e-324, -0.0, -1, 1e308 };
	struct tbg_counts before, after;
	struct tbg_share one = share();
	long long seq;
	size_t i;

	next();
	tbg_events_counts(&before);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		one.diff = one.share_diff = one.network_diff = numbers[i];
		tbg_share_submitted(&session, &one);
		tbg_share_accepted(&session, "nan", "nan", numbers[i], HASH);
		tbg_hashrate_update(&(struct tbg_hashrate){ .user = USER, .dsps_1m = numbers[i],
							    .dsps_5m = numbers[i] });
		tbg_diff_updated(&(struct tbg_diff){ .user = USER, .old_diff = numbers[i],
						     .new_diff = numbers[i] });
		tbg_new_block_network(&(struct tbg_tip){ .hash = HASH, .network_diff = numbers[i] });
	}
	one = share();
	one.user = NULL;
	tbg_share_submitted(&session, &one);
	tbg_block_found(&(struct tbg_block){ .user = USER, .hash_words = "none", .share_diff = 1,
					     .network_diff = 1 });
	tbg_block_found(&(struct tbg_block){ .user = USER, .hash_words = TIP, .halving = 210000,
					     .reward = INT64_MIN, .share_diff = 1,
					     .network_diff = 1 });
	tbg_block_found(&(struct tbg_block){ .user = USER, .hash_words = "ff" "0000000000a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a",
					     .height = -1,
					     .share_diff = 1, .network_diff = 1 });
	one = share();
	one.job_id = "the last one";
	tbg_share_submitted(&session, &one);
	while (strstr(next(), "{\"event\"") && !strstr(text, "the last one")) {
		if (strstr(text, "nan,") || strstr(text, "inf"))
			break;
	}
	check(says("the last one"), "NaN, infinity, zero and negative numbers do no harm");
	tbg_events_counts(&after);
	check(after.lost_unsayable - before.lost_unsayable == 28,
	      "what cannot be said is counted (%llu)",
	      (unsigned long long)(after.lost_unsayable - before.lost_unsayable));
	/* Hash rates come last. */
	do {
		seq = number_after(text, "\"seq\":");
	} while (seq < (long long)after.emitted && strstr(next(), "{\"event\""));
	check(seq == (long long)after.emitted, "and leaves a gap in seq");
}

static void *stop(void *nothing)
{
	tbg_events_stop(10000);
	return nothing;
}

/* The receiver dies, and the engine, which has sent nothing since, stops. */
static void last_words(const char *path)
{
	pthread_t stopping;
	long long seq, before = 0, last = 0;
	int patience = 500;

	tbg_new_block_network(&(struct tbg_tip){ .hash = HASH, .height = 2, .network_diff = 1 });
	while (strstr(next(), "{\"event\""))
		before = number_after(text, "\"seq\":");
	close(fd);
	unlink(path);
	fd = receiver_open(path);
	receiver_status[0] = '\0';
	pthread_create(&stopping, NULL, stop, NULL);
	while (!strstr(receiver_status, "\"state\":\"ended\"") && patience) {
		if (!receiver_next(fd, text)) {
			patience--;
			continue;
		}
		seq = number_after(text, "\"seq\":");
		last = seq > last ? seq : last;
	}
	pthread_join(stopping, NULL);
	check(before > 0 && last == before,
	      "the next receiver gets what the last one died with (%lld of %lld)", last, before);
}

int main(void)
{
	char path[64];

	feenableexcept(FE_DIVBYZERO | FE_INVALID);
	snprintf(path, sizeof(path), "/tmp/tbg-events-%d.sock", (int)getpid());
	settings();
	fd = receiver_open(path);
	setenv("TBG_EVENTS_SOCKET", path, 1);
	folder_make("events");
	check(tbg_events_start("eu1", NULL, keep), "events start");
	check(logged("longer than 16 bytes") && logged("names 'shares'") && logged("'many' is no number"),
	      "settings that make no sense are named");
	bounds();
	forms();
	signals();
	shares();
	hostile();
	bests();
	blocks();
	block_hashes();
	rates();
	death(path);
	tbg_new_block_network(&(struct tbg_tip){ .hash = HASH, .height = 1, .network_diff = 1 });
	impossible();
	proofs();
	last_words(path);
	check(logged("unsayable"), "the end is summed up");
	check(!access(state, R_OK), "best difficulties are saved");
	close(fd);
	unlink(path);
	folder_remove();
	return finish();
}
