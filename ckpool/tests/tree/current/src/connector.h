/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef CONNECTOR_H
#define CONNECTOR_H

typedef struct connector_data cdata_t;

/* Begins to serve a socket that listens; NULL if it cannot. */
cdata_t *connector_new(int serverfd);

/* Serves it, without end; several threads may. */
void *connector(void *cdata);

#endif
