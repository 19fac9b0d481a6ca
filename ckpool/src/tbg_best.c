/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_best.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tbg_json.h"
#include "tbg_siphash.h"

/* A week's best in one word, so that it changes in one step: four bits of tag
 * (the week by TBG_WEEKS, modulo 16), and the double. Bits of positive doubles order as the
 * numbers do, and no share difficulty needs all of them: the hardest hash is
 * below 2^224, the easiest above 2^-33. So the bits above those of 2^-33 fit in
 * 60, exactly; 0 means none. */
#define TAG_SHIFT 60
#define VALUE_MASK (((uint64_t)1 << TAG_SHIFT) - 1)
#define CYCLE (16 * TBG_WEEKS)	/* weeks that tag and place tell apart */
#define LOWEST ((uint64_t)(1023 - 33) << 52)

/* All-time: the bits of the double; ckpool's word that there was none yet must
 * differ from "not asked yet". No share has the difficulty 5e-324. */
#define NONE_YET 1

static double number_of(uint64_t bits)
{
	double number;

	if (bits <= NONE_YET)
		return 0;
	memcpy(&number, &bits, sizeof(number));
	return number;
}

static uint64_t tag_of(uint32_t week)
{
	return (uint64_t)(week / TBG_WEEKS & 15) << TAG_SHIFT;
}

static uint64_t value_of(uint64_t bits)
{
	if (bits <= LOWEST)
		return 1;
	return bits - LOWEST > VALUE_MASK ? VALUE_MASK : bits - LOWEST;
}

bool tbg_best_make(struct tbg_best *best, size_t users)
{
	size_t places = TBG_PROBES;

	memset(best, 0, sizeof(*best));
	while (places < users + users / 3)
		places *= 2;
	if (getrandom(best->key, sizeof(best->key), 0) != sizeof(best->key))
		return false;
	best->entries = calloc(places, sizeof(struct tbg_best_entry));
	best->mask = places - 1;
	best->week = TBG_NO_WEEK;
	return best->entries != NULL;
}

void tbg_best_free(struct tbg_best *best)
{
	free(best->entries);
	best->entries = NULL;
}

/* How many weeks ago a word was written: 0 for this week, and for a later one, which
 * only a wrong clock can have dated; CYCLE for none at all. */
static uint32_t age_of(uint64_t word, uint32_t place, uint32_t week)
{
	uint32_t its_week = (uint32_t)(word >> TAG_SHIFT) * TBG_WEEKS + place;
	uint32_t age = (week % CYCLE + CYCLE - its_week) % CYCLE;

	if (!word)
		return CYCLE;
	return age >= CYCLE / 2 ? 0 : age;
}

/* How many weeks ago the entry had its last share. */
static uint32_t idle_weeks(const struct tbg_best_entry *entry, uint32_t week)
{
	uint32_t place, age, idle = CYCLE;

	for (place = 0; place < TBG_WEEKS; place++) {
		age = age_of(atomic_load_explicit(&entry->weeks[place].shares,
						  memory_order_relaxed), place, week);
		if (age < idle)
			idle = age;
	}
	return idle;
}

/* Clears a word that is not of this week; false if it is, or becomes so. */
static bool clear(_Atomic uint64_t *word, uint32_t place, uint32_t week)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

	return age_of(old, place, week) > 0 &&
	       atomic_compare_exchange_strong_explicit(word, &old, 0, memory_order_relaxed,
						       memory_order_relaxed);
}

/* Gives an idle user's place to another. Its words are cleared before the place
 * changes hands: a user that changes one of them meanwhile is not idle, and keeps it.
 * (Should the idle user return in the very instant after that, its share counts for
 * the other: one share, once.) */
static bool replace(struct tbg_best_entry *entry, uint64_t hash, uint32_t week)
{
	uint64_t before = atomic_load_explicit(&entry->user, memory_order_relaxed);
	uint64_t alltime = atomic_load_explicit(&entry->alltime, memory_order_relaxed);
	uint32_t place;

	for (place = 0; place < TBG_WEEKS; place++) {
		if (!clear(&entry->weeks[place].shares, place, week) ||
		    !clear(&entry->weeks[place].best, place, week))
			return false;
	}
	return atomic_compare_exchange_strong_explicit(&entry->alltime, &alltime, 0,
						       memory_order_relaxed,
						       memory_order_relaxed) &&
	       atomic_compare_exchange_strong_explicit(&entry->user, &before, hash,
						       memory_order_relaxed,
						       memory_order_relaxed);
}

/* The user's entry, made if necessary; NULL if nobody makes room. */
static struct tbg_best_entry *find(struct tbg_best *best, const char *user, uint32_t week)
{
	struct tbg_best_entry *idlest = NULL;
	uint32_t idle, longest = 0;
	uint64_t hash;
	size_t i;

	if (!user)
		return NULL;
	hash = tbg_siphash(best->key, user, strlen(user));
	hash += !hash;	/* 0 is a free place */
	for (i = 0; i < TBG_PROBES; i++) {
		struct tbg_best_entry *entry = &best->entries[(hash + i) & best->mask];
		uint64_t found = atomic_load_explicit(&entry->user, memory_order_relaxed);

		/* Losing the race for a free place shows who won it. Relaxed:
		 * an entry's words stand each on its own. */
		if (!found &&
		    atomic_compare_exchange_strong_explicit(&entry->user, &found, hash,
							    memory_order_relaxed,
							    memory_order_relaxed))
			return entry;
		if (found == hash)
			return entry;
	}
	for (i = 0; i < TBG_PROBES && longest < CYCLE; i++) {
		struct tbg_best_entry *entry = &best->entries[(hash + i) & best->mask];

		idle = idle_weeks(entry, week);
		if (idle > longest) {
			longest = idle;
			idlest = entry;
		}
	}
	return idlest && replace(idlest, hash, week) ? idlest : NULL;
}

static void set_known(struct tbg_best_entry *entry, double known)
{
	uint64_t unset = 0, bits = tbg_is_difficulty(known) ? tbg_bits_of(known) : NONE_YET;

	if (!atomic_load_explicit(&entry->alltime, memory_order_relaxed))
		atomic_compare_exchange_strong_explicit(&entry->alltime, &unset, bits,
							memory_order_relaxed,
							memory_order_relaxed);
}

static int64_t count_share(_Atomic uint64_t *word, uint64_t tag)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed), count;

	do {
		count = (old & ~VALUE_MASK) == tag ? (old & VALUE_MASK) + 1 : 1;
	} while (!atomic_compare_exchange_weak_explicit(word, &old, tag | count,
							memory_order_relaxed,
							memory_order_relaxed));
	return (int64_t)count;
}

static bool raise_week(_Atomic uint64_t *word, uint64_t tag, uint64_t bits, double *previous)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed), held;

	do {
		held = (old & ~VALUE_MASK) == tag ? old & VALUE_MASK : 0;
		if (held >= value_of(bits))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(word, &old, tag | value_of(bits),
							memory_order_relaxed,
							memory_order_relaxed));
	*previous = held ? number_of(held + LOWEST) : 0;
	return true;
}

static bool raise_word(_Atomic uint64_t *word, uint64_t bits, double *previous)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

	do {
		if (old >= bits)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(word, &old, bits, memory_order_relaxed,
							memory_order_relaxed));
	*previous = number_of(old);
	return true;
}

static bool is_far(uint32_t week, uint32_t other)
{
	return (week > other ? week - other : other - week) >= CYCLE / 2;
}

void tbg_best_share(struct tbg_best *best, const char *user, double known, double difficulty,
		    uint32_t week, struct tbg_best_result *result)
{
	struct tbg_best_entry *entry;
	struct tbg_best_week *kept;
	uint32_t swept;
	uint64_t bits = tbg_bits_of(difficulty);

	memset(result, 0, sizeof(*result));
	if (!tbg_is_difficulty(difficulty))
		return;
	entry = find(best, user, week);
	if (!entry) {
		atomic_fetch_add_explicit(&best->untracked, 1, memory_order_relaxed);
		return;
	}
	set_known(entry, known);
	swept = atomic_load_explicit(&best->week, memory_order_relaxed);
	if (swept == TBG_NO_WEEK || is_far(swept, week))
		tbg_best_sweep(best, week);
	kept = &entry->weeks[week % TBG_WEEKS];
	result->week_shares = count_share(&kept->shares, tag_of(week));
	result->week = raise_week(&kept->best, tag_of(week), bits, &result->previous_week);
	result->alltime = raise_word(&entry->alltime, bits, &result->previous_alltime);
	/* Read first: the line stays shared while nothing changes. */
	if (!atomic_load_explicit(&best->changed, memory_order_relaxed))
		atomic_store_explicit(&best->changed, true, memory_order_relaxed);
}

bool tbg_session_best(struct tbg_session *session, double difficulty, double *previous)
{
	return tbg_is_difficulty(difficulty) &&
	       raise_word(&session->best, tbg_bits_of(difficulty), previous);
}

static void sweep_word(_Atomic uint64_t *word, uint32_t place, uint32_t week, bool all)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
	uint32_t its_week = (uint32_t)(old >> TAG_SHIFT) * TBG_WEEKS + place;

	/* Half of the cycle counts as past, half as future. A share that comes in
	 * meanwhile changes the word, and the exchange then fails, as it should. */
	if (old && (all || (week % CYCLE + CYCLE - its_week) % CYCLE >= CYCLE / 2))
		atomic_compare_exchange_strong_explicit(word, &old, 0, memory_order_relaxed,
							memory_order_relaxed);
}

void tbg_best_sweep(struct tbg_best *best, uint32_t week)
{
	uint32_t place, before = atomic_exchange_explicit(&best->week, week, memory_order_relaxed);
	bool all = before != TBG_NO_WEEK && is_far(before, week);
	size_t i;

	for (i = 0; i <= best->mask; i++) {
		for (place = 0; place < TBG_WEEKS; place++) {
			sweep_word(&best->entries[i].weeks[place].best, place, week, all);
			sweep_word(&best->entries[i].weeks[place].shares, place, week, all);
		}
	}
}
