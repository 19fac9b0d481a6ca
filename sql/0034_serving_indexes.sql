-- depends: 0033_serving
-- What tbg serve asks for, found by an index.

-- The best shares of all weeks.
create index weekly_best_diff_ever on weekly_best_diff (best_difficulty desc);

-- A user's days with what is summed, without a look at the rows.
create index worker_stats_daily_sums on worker_stats_daily (user_id, day)
include (worker_id, accepted, rejected, work, best_share_diff);

-- The network's tip: heights begin again on a chain of one's own.
create index network_blocks_seen on network_blocks (seen_at desc, height desc);
