/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* One share that solves a block, through the woven tree to the receiver at the socket.
 * Compiled with the woven stratifier.c in front.
 *
 * Usage: solve HASH HEADER COINBASE [BRANCH...]
 * All in hex: the hash as explorers show it, the others as they are hashed. */

#include "stratifier.c"

#include <pthread.h>

#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

ckpool_t ckpool = { .name = "solve", .btcsig = "/TheBitcoinGame-dev/", .regtest = true };

void logmsg(int loglevel, const char *fmt, ...)
{
	(void)loglevel;
	(void)fmt;
}

int main(int argc, char **argv)
{
	struct worker_instance rig = { .workername = strdup(USER ".rig") };
	struct user_instance user = { .username = USER, .worker_instances = &rig };
	struct stratum_instance client = {
		.id = 7, .diff = 1, .start_time = time(NULL), .address = "192.0.2.17",
		.user_instance = &user, .worker_instance = &rig, .workername = strdup(USER ".rig"),
	};
	struct genwork wb = { .height = 102, .coinbasevalue = 5000000100, .network_diff = 1,
			  .prevhash = "18192a3bd5e6f7078091b2c34c5d6e7f0e1f2a3b6b7a8c9d002d1f5e00000000" };
	enum share_err err = SE_NONE;
	struct tbg_counts counts;
	struct submission share;

	if (argc < 4 || argc > 20) {
		fprintf(stderr, "usage: solve HASH HEADER COINBASE [BRANCH...]\n");
		return 2;
	}
	share = (struct submission){
		.workername = USER ".rig", .job_id = "6920fd40", .nonce = "7a1c03e2",
		.nonce2 = "00000029", .ntime = "6920fd41", .hash = argv[1], .header = argv[2],
		.coinbase = argv[3], .sdiff = 4000,
	};
	for (; wb.merkles < argc - 4; wb.merkles++)
		hex2bin((uchar *)wb.merklebin[wb.merkles], argv[4 + wb.merkles], 32);
	stratifier(NULL);
	client.sdata = ckpool.sdata;
	client.sdata->user_instances = &user;
	strcpy(client.sdata->lastswaphash, argv[1]);
	sauth_process(&client);
	suggest_diff(&client, "mining.suggest_difficulty", 2);
	block_update(client.sdata, &wb);
	parse_submit(&client, &share, &err);
	statsupdate(NULL);
	drop_subclients(client.sdata, &client);
	add_instance_once(client.sdata, &client, true);
	submit_node_block(client.sdata, false);
	parse_diff(&client, 2);
	tbg_events_stop(5000);
	tbg_events_counts(&counts);
	return counts.sent != counts.emitted || counts.lost_full || err != SE_NONE;
}
