// Part of The Bitcoin Game's ckpool fork.
// Copyright (C) 2026 The Bitcoin Game
// SPDX-License-Identifier: GPL-3.0-or-later

// What the hooks stand on: our header, a session in every connection, and the
// start of the sender before any thread exists that could emit.

@include@ @@
 #include "stratifier.h"
+#include "tbg_events.h"

// Upstream zeroes the struct before each use: all zero is a new session.
@session@ @@
 struct stratum_instance {
 ...
+struct tbg_session tbg;
 };

// The pool's data are a global of that name, or in older trees an argument.
// (`<... ...>` matches a function without the thing, too; this does not.)
@by_global@ @@
 ckpool.sdata = sdata;

@by_argument@ @@
 ckp->sdata = sdata;

@start@
@@
stratifier(...)
{
<...
 ckpool.sdata = sdata;
+tbg_events_start(ckpool.name, ckpool.logdir, logmsg);
...>
}

@start_ckp@
@@
stratifier(...)
{
<...
 ckp->sdata = sdata;
+tbg_events_start(ckp->name, ckp->logdir, logmsg);
...>
}
