/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef BITCOIN_H
#define BITCOIN_H

#include <stdbool.h>

const char *work_request(const char *rule);
bool submit_block(const char *block);

#endif
