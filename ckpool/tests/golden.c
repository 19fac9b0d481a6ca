/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Prints the eight golden events of tests/events/, as this module says them, and with
 * an argument the engine_status of tests/messages/: one JSON object a line.
 * tests/ckpool/test_golden.py compares. */

#include <stdio.h>

#include "tbg_best.h"
#include "tbg_json.h"
#include "tbg_record.h"
#include "tbg_week.h"

#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
#define WORKER USER ".bitaxe-1"
#define HASH "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"
#define HASH_WORDS "08192a3bc4d5e6f78091a2b34c5d6e7f0e1f2a3b6b7a8c9d002d1f5e00000000"
#define TIP "0000000000a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b"
#define TIP_WORDS "18293a4bd4e5f60790a1b2c35c6d7e8f18293a4bd4e5f60700a1b2c300000000"
#define BEFORE_TIP "00000000000000000001b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607"
#define NETWORK 102289407543323.8

static struct tbg_record record;

static struct tbg_record *begin(enum tbg_kind kind, int64_t timestamp, uint64_t seq)
{
	tbg_record_begin(&record, kind);
	record.timestamp = timestamp;
	record.seq = seq;
	return &record;
}

static void print(void)
{
	char text[TBG_DATAGRAM_MAX];
	size_t length = tbg_record_write(&record, NULL, "hosted", "ckpool-eu1/1763769600123456", text,
					 sizeof(text));

	printf("%.*s\n", (int)length, text);
}

static int print_status(void)
{
	char text[TBG_DATAGRAM_MAX];
	size_t length = tbg_status_write(&(struct tbg_status){
		.instance = "ckpool-eu1/1763769600123456", .state = "running",
		.timestamp = 1763769610123456, .last_seq = 4711 }, "hosted", text, sizeof(text));

	printf("%.*s\n", (int)length, text);
	return 0;
}

int main(int argc, char **argv)
{
	struct tbg_session session = { .accepted = 412, .rejected = 3 };
	double broken;

	(void)argv;
	if (!tbg_json_setup())
		return 2;
	if (argc > 1)
		return print_status();
	begin(TBG_NEW_BLOCK_NETWORK, 1763769600124456, 1);
	tbg_record_tip(&record, &(struct tbg_tip){ .hash = TIP, .prev_hash = BEFORE_TIP,
						   .height = 868000, .network_diff = NETWORK });
	print();
	begin(TBG_MINER_CONNECTED, 1763769600125456, 2);
	tbg_record_connected(&record, &(struct tbg_connected){
		.user = USER, .workername = WORKER, .ip = "192.0.2.17", .client_id = 7, .diff = 1,
		.user_agent = "bitaxe/BM1370/v2.9.0", .protocol = "stratum_v1" });
	print();
	begin(TBG_DIFF_UPDATED, 1763769600126456, 3);
	tbg_record_diff(&record, &(struct tbg_diff){ .user = USER, .workername = WORKER,
						     .client_id = 7, .old_diff = 1,
						     .new_diff = 512, .reason = "vardiff" });
	print();
	begin(TBG_SHARE_SUBMITTED, 1763769600127456, 4);
	tbg_record_share(&record, &(struct tbg_share){
		.user = USER, .workername = WORKER, .diff = 512, .share_diff = 4821.375,
		.valid = true, .reject_reason = "Valid", .job_id = "6920fd4000000003",
		.nonce = "7a1c03e2", .nonce2 = "0000000000000029", .ntime = "6920fd41",
		.hash = HASH, .ip = "192.0.2.17", .user_agent = "bitaxe/BM1370/v2.9.0",
		.client_id = 7, .version_bits = 0x00c00000, .network_diff = NETWORK });
	print();
	begin(TBG_SHARE_BEST_DIFF, 1763769600128456, 5);
	tbg_record_best(&record, &(struct tbg_best_broken){
		.user = USER, .workername = WORKER, .hash = HASH, .period = "session",
		.week = tbg_week_of(1763769600), .new_best = 4821.375 });
	print();
	begin(TBG_BLOCK_FOUND, 1763769600129456, 6);
	tbg_record_block(&record, &(struct tbg_block){
		.user = USER, .workername = WORKER, .hash_words = HASH_WORDS, .prev_words = TIP_WORDS,
		.nonce = "7a1c03e2", .coinbase_sig = "/TheBitcoinGame/", .height = 868001,
		.reward = 318750000, .halving = 210000, .share_diff = 121500000000000.5,
		.network_diff = NETWORK }, NULL);
	print();
	begin(TBG_HASHRATE_UPDATE, 1763769600130456, 7);
	tbg_record_hashrate(&record, &(struct tbg_hashrate){
		.user = USER, .workername = WORKER, .dsps_1m = 1.21e12 / 4294967296,
		.dsps_5m = 1.18e12 / 4294967296, .dsps_1h = 1.2e12 / 4294967296,
		.dsps_24h = 1.195e12 / 4294967296 });
	print();
	begin(TBG_MINER_DISCONNECTED, 1763769600131456, 8);
	tbg_session_best(&session, 4821.375, &broken);
	tbg_record_disconnected(&record, &session, &(struct tbg_disconnected){
		.user = USER, .workername = WORKER, .ip = "192.0.2.17",
		.reason = "closed by the miner", .client_id = 7,
		.since = 1763769600131456 - 3600250000 });
	print();
	return 0;
}
