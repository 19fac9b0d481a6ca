-- depends: 0033_serving
-- transactional: false
-- What tbg serve asks for, found by an index. Built beside the writers; what a build that was
-- cut off has left goes first.

-- The best shares of all weeks.
drop index concurrently if exists weekly_best_diff_ever;
create index concurrently weekly_best_diff_ever on weekly_best_diff (best_difficulty desc);

-- A user's days with what is summed, without a look at the rows.
drop index concurrently if exists worker_stats_daily_sums;
create index concurrently worker_stats_daily_sums on worker_stats_daily (user_id, day)
include (worker_id, accepted, rejected, work, best_share_diff);

-- The network's tip: heights begin again on a chain of one's own.
drop index concurrently if exists network_blocks_seen;
create index concurrently network_blocks_seen on network_blocks (seen_at desc, height desc);
