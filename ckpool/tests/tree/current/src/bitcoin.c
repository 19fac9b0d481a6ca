/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * This program is free software: you can redistribute it and/or modify it
 * under the terms of the GNU General Public License as published by the Free
 * Software Foundation, either version 3 of the License, or (at your option)
 * any later version. It comes without any warranty; see LICENSE for details.
 */

/* Only read by the weaving, never compiled: what asks for work. */

static char *understood_rules[] = {"segwit"};

static const char *gbt_req = "{\"method\": \"getblocktemplate\", \"params\": [{\"mode\": \"template\", \"capabilities\": [\"longpoll\"], \"rules\" : [\"segwit\"]}]}\n";
