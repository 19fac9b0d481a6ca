/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Reads user names, each ended by a NUL, and prints an accepted share of each as
 * one JSON object a line; an empty line where there can be no event, as it has no
 * user. tests/ckpool/test_names.py compares with tests/events/usernames.json. */

#include <stdio.h>

#include "tbg_json.h"
#include "tbg_record.h"

int main(void)
{
	char name[1024], text[TBG_DATAGRAM_MAX];
	struct tbg_record record;
	size_t length = 0;
	int byte;

	if (!tbg_json_setup())
		return 2;
	while ((byte = getchar()) != EOF) {
		name[length++] = (char)byte;
		if (length == sizeof(name))
			return 2;
		if (byte)
			continue;
		tbg_record_begin(&record, TBG_SHARE_SUBMITTED);
		tbg_record_share(&record, &(struct tbg_share){
			.user = name, .workername = name, .diff = 1, .share_diff = 2,
			.valid = true, .job_id = "1", .nonce = "7a1c03e2", .nonce2 = "00" });
		length = tbg_record_write(&record, NULL, "hosted", "names/1", text, sizeof(text));
		printf("%.*s\n", (int)length, text);
		length = 0;
	}
	return 0;
}
