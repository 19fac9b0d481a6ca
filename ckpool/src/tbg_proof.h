/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* What anyone needs to check a share: the block header, the coinbase transaction and
 * the merkle branch from it to the header's root.
 *
 * ckpool has the three together while it works out a share's difficulty, before
 * it knows whether the share is valid, and frees them after that. So the mining
 * thread keeps its own copy until the verdict, which comes on the same thread. Only bests and blocks send it, and it is larger than a ring's cell: it
 * waits for the sender in a place of a small table. */

#ifndef TBG_PROOF_H
#define TBG_PROOF_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TBG_HEADER 80
#define TBG_BRANCH_MAX 16
/* Header, branch and coinbase together, bytes. With its keys, in hex, the proof
 * stays below 4 KiB. */
#define TBG_PROOF_MAX 1984
#define TBG_PROOFS 2048		/* that may wait; 4 MiB */

struct tbg_proof {
	bool fresh;			/* there is a hash, of a share without verdict */
	uint16_t coinbase_length;	/* 0 = there is no proof */
	uint16_t branches;
	unsigned char hash[32];		/* as sha256d gives it */
	/* The header, the branch and the coinbase, one after the other. */
	unsigned char bytes[TBG_PROOF_MAX];
};

struct tbg_proofs {
	struct {
		_Atomic bool taken;
		struct tbg_proof proof;
	} places[TBG_PROOFS];
	_Atomic uint32_t next;
};

/* Copies a proof; leaves the hash alone when a part has no sensible size or all of them
 * are too large together. */
void tbg_proof_copy(struct tbg_proof *proof, const unsigned char *hash,
		    const unsigned char *header, const void *coinbase, int coinbase_length,
		    const void *branch, int branches);

/* Whether it proves the share of that hash, 64 hex digits as explorers show it. */
bool tbg_proof_is_of(const struct tbg_proof *proof, const char *hash);

/* Writes the fresh share's hash as explorers show it; false if there is none. */
bool tbg_proof_hash(const struct tbg_proof *proof, char hash[65]);

/* Puts a copy into a place and returns the place's number from 1 on; 0 when too
 * many wait. Lock-free. */
uint16_t tbg_proofs_put(struct tbg_proofs *proofs, const struct tbg_proof *proof);

/* The proof of that number; NULL for 0. */
const struct tbg_proof *tbg_proofs_at(const struct tbg_proofs *proofs, uint16_t number);

/* Frees that place; 0 means no place. */
void tbg_proofs_free(struct tbg_proofs *proofs, uint16_t number);

#endif
