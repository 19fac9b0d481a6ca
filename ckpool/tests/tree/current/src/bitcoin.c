/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* What talks to the node: it asks for work, and submits blocks. */

#include "ckpool.h"
#include "libckpool.h"
#include "bitcoin.h"

static char *understood_rules[] = {"segwit"};

static const char *gbt_req = "{\"method\": \"getblocktemplate\", \"params\": [{\"mode\": \"template\", \"capabilities\": [\"longpoll\"], \"rules\" : [\"segwit\"]}]}\n";

const char *work_request(const char *rule)
{
	size_t i;

	for (i = 0; i < sizeof(understood_rules) / sizeof(understood_rules[0]); i++) {
		if (!safecmp(understood_rules[i], rule))
			return gbt_req;
	}
	return NULL;
}

/* A node that refuses a nonce that begins with "bad" and knows "d0b1e" already;
 * its answer about "dead" gets lost. */
static const char *node_says(const char *block)
{
	if (!strncmp(block, "dead", 4))
		return NULL;
	if (!strncmp(block, "d0b1e", 5))
		return "duplicate";
	return strncmp(block, "bad", 3) ? "" : "bad-txnmrklroot";
}

bool submit_block(const char *block)
{
	const char *res_ret, *answer;
	int tries = 0;

	do {
		answer = node_says(block);
	} while (!answer && ++tries < 5);
	if (!answer)
		return false;
	if (*answer) {
		res_ret = answer;
		return !safecmp(res_ret, "duplicate");
	}
	return true;
}
