/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_proof.h"

#include <string.h>

#define TRIES 8

void tbg_proof_copy(struct tbg_proof *proof, const unsigned char *hash,
		    const unsigned char *header, const void *coinbase, int coinbase_length,
		    const void *branch, int branches)
{
	unsigned char *at = proof->bytes;

	proof->coinbase_length = 0;
	proof->fresh = hash != NULL;
	if (hash)
		memcpy(proof->hash, hash, sizeof(proof->hash));
	if (!hash || !header || !coinbase || coinbase_length < 1 || branches < 0 ||
	    branches > TBG_BRANCH_MAX || (branches && !branch) ||
	    coinbase_length > TBG_PROOF_MAX - TBG_HEADER - 32 * branches)
		return;
	memcpy(at, header, TBG_HEADER);
	at += TBG_HEADER;
	if (branches)
		memcpy(at, branch, 32 * (size_t)branches);
	at += 32 * branches;
	memcpy(at, coinbase, (size_t)coinbase_length);
	proof->branches = (uint16_t)branches;
	proof->coinbase_length = (uint16_t)coinbase_length;
}

static void write_hash(const struct tbg_proof *proof, char hash[65])
{
	static const char digits[] = "0123456789abcdef";
	int i;

	for (i = 0; i < 32; i++) {
		hash[2 * i] = digits[proof->hash[31 - i] >> 4];
		hash[2 * i + 1] = digits[proof->hash[31 - i] & 15];
	}
	hash[64] = '\0';
}

bool tbg_proof_is_of(const struct tbg_proof *proof, const char *hash)
{
	char own[65];

	if (!proof->coinbase_length || !hash || strnlen(hash, 65) != 64)
		return false;
	write_hash(proof, own);
	return !strcmp(own, hash);
}

bool tbg_proof_hash(const struct tbg_proof *proof, char hash[65])
{
	if (proof->fresh)
		write_hash(proof, hash);
	return proof->fresh;
}

uint16_t tbg_proofs_put(struct tbg_proofs *proofs, const struct tbg_proof *proof)
{
	uint32_t place;
	int tries;

	/* Places are freed about in the order in which they were taken, so one that
	 * is still taken means that nearly all are. Acquire and release: the sender
	 * has read the old proof before the new one is written. */
	for (tries = 0; tries < TRIES; tries++) {
		place = atomic_fetch_add_explicit(&proofs->next, 1, memory_order_relaxed) %
			TBG_PROOFS;
		if (atomic_exchange_explicit(&proofs->places[place].taken, true,
					     memory_order_acquire))
			continue;
		memcpy(&proofs->places[place].proof, proof, sizeof(*proof));
		return (uint16_t)(place + 1);
	}
	return 0;
}

const struct tbg_proof *tbg_proofs_at(const struct tbg_proofs *proofs, uint16_t number)
{
	return number ? &proofs->places[number - 1].proof : NULL;
}

void tbg_proofs_free(struct tbg_proofs *proofs, uint16_t number)
{
	if (number)
		atomic_store_explicit(&proofs->places[number - 1].taken, false,
				      memory_order_release);
}
