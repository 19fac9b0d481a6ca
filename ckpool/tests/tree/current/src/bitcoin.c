/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Only read by the weaving, never compiled: what asks for work. */

static char *understood_rules[] = {"segwit"};

static const char *gbt_req = "{\"method\": \"getblocktemplate\", \"params\": [{\"mode\": \"template\", \"capabilities\": [\"longpoll\"], \"rules\" : [\"segwit\"]}]}\n";
