-- depends: 0001_core 0003_views 0004_batch 0005_share_ledger 0007_judgement 0008_balance 0009_proofs 0010_alerts 0011_archive 0012_standings 0014_endings 0015_positions 0016a_progress 0016d_identity 0016e_bests 0017_weeks 0017a_bests 0018_alert_targets 0018a_check_faults 0018b_worker_allowances 0021a_replayed_letters 0021b_bounded
-- What each table and column means, and its unit: docs/schema.md is written from this.

comment on table users is 'Miners, known by the address that they mine to.';
comment on column users.id is 'number of the user, in this database alone';
comment on column users.btc_address is 'Bitcoin address; text of a stranger';
comment on column users.display_name is 'name for pages; nothing writes it yet';
comment on column users.country_code is 'ISO 3166-1 code of two letters; nothing writes it yet';
comment on column users.created_at is 'time of the first event';
comment on column users.last_seen is 'time of the newest event';
comment on column users.is_verified is 'whether the user proved to own the address; nothing writes it yet';
comment on column users.hashrate_1m is 'hashes per second over 1 minute, as the engine says';
comment on column users.hashrate_5m is 'hashes per second over 5 minutes, as the engine says';
comment on column users.hashrate_1h is 'hashes per second over 1 hour, as the engine says';
comment on column users.hashrate_24h is 'hashes per second over 24 hours, as the engine says';

comment on table workers is 'Workers of users: the part of a Stratum name after the address.';
comment on column workers.id is 'number of the worker, in this database alone';
comment on column workers.user_id is 'the user';
comment on column workers.worker_name is 'name; empty if the miner gave none; text of a stranger';
comment on column workers.first_seen is 'time of the first event';
comment on column workers.last_share is 'time of the last share that was noted; see the view workers_seen for the newest';
comment on column workers.current_diff is 'difficulty that the worker is held to';
comment on column workers.hashrate_1m is 'hashes per second over 1 minute, as the engine says';
comment on column workers.hashrate_5m is 'hashes per second over 5 minutes, as the engine says';
comment on column workers.hashrate_1h is 'hashes per second over 1 hour, as the engine says';
comment on column workers.hashrate_24h is 'hashes per second over 24 hours, as the engine says';
comment on column workers.is_online is 'whether it is connected, or not silent for longer than its pace allows';
comment on column workers.user_agent is 'software of the miner; text of a stranger';
comment on column workers.source is 'hosted, or simulated';

comment on view workers_seen is 'Workers with their newest share, whether its row was updated yet or not.';
comment on column workers_seen.id is 'as in workers';
comment on column workers_seen.user_id is 'as in workers';
comment on column workers_seen.worker_name is 'as in workers';
comment on column workers_seen.first_seen is 'as in workers';
comment on column workers_seen.last_share is 'time of the newest share';
comment on column workers_seen.noted_share is 'last_share of the row in workers';
comment on column workers_seen.current_diff is 'as in workers';
comment on column workers_seen.hashrate_1m is 'as in workers';
comment on column workers_seen.hashrate_5m is 'as in workers';
comment on column workers_seen.hashrate_1h is 'as in workers';
comment on column workers_seen.hashrate_24h is 'as in workers';
comment on column workers_seen.is_online is 'as in workers';
comment on column workers_seen.user_agent is 'as in workers';
comment on column workers_seen.source is 'as in workers';

comment on table shares is 'Raw shares, kept for RETENTION_DAYS.';
comment on column shares.time is 'time that the engine gave the share';
comment on column shares.share_diff is 'share difficulty; 1 is 2^32 hashes; null if the engine does not know it';
comment on column shares.difficulty is 'difficulty that the share had to reach';
comment on column shares.seq is 'number in the engine boot; null if the engine does not number';
comment on column shares.user_id is 'the user';
comment on column shares.worker_id is 'the worker; null if the event names none';
comment on column shares.instance_id is 'the engine boot; null if the event names none';
comment on column shares.is_valid is 'whether the engine accepted it';
comment on column shares.is_block is 'whether it solves a block';
comment on column shares.source is 'hosted, or simulated';
comment on column shares.nonce is 'nonce as the miner sent it';
comment on column shares.nonce2 is 'extranonce 2 as the miner sent it';
comment on column shares.share_hash is 'hash of the header, in the order in which explorers show it';
comment on column shares.job_id is 'job that the share answers';
comment on column shares.ip_address is 'address of the miner';
comment on column shares.reject_reason is 'why it was refused; null if it is valid';

comment on view shares_hex is 'Shares with names instead of numbers, and hashes as text.';
comment on column shares_hex.time is 'as in shares';
comment on column shares_hex.btc_address is 'address of the user';
comment on column shares_hex.worker_name is 'name of the worker';
comment on column shares_hex.difficulty is 'as in shares';
comment on column shares_hex.share_diff is 'as in shares';
comment on column shares_hex.is_valid is 'as in shares';
comment on column shares_hex.reject_reason is 'as in shares';
comment on column shares_hex.is_block is 'as in shares';
comment on column shares_hex.job_id is 'as in shares';
comment on column shares_hex.nonce is 'hex';
comment on column shares_hex.nonce2 is 'hex';
comment on column shares_hex.share_hash is '64 hex digits, as explorers show a block''s hash';
comment on column shares_hex.ip_address is 'as in shares';
comment on column shares_hex.source is 'as in shares';
comment on column shares_hex.instance is 'the engine boot';
comment on column shares_hex.seq is 'as in shares';
comment on column shares_hex.user_id is 'as in shares';
comment on column shares_hex.worker_id is 'as in shares';
comment on column shares_hex.instance_id is 'as in shares';

comment on table mining_events is 'All other events, kept for RETENTION_DAYS.';
comment on column mining_events.time is 'time that the engine gave the event';
comment on column mining_events.seq is 'number in the engine boot; null if the engine does not number';
comment on column mining_events.instance_id is 'the engine boot; null if the event names none';
comment on column mining_events.event is 'kind, as in docs/events.md';
comment on column mining_events.source is 'hosted, or simulated';
comment on column mining_events.payload is 'data of the event, unknown fields included';

comment on table share_proofs is 'Proofs of work of bests and blocks.';
comment on column share_proofs.share_hash is 'hash of the header';
comment on column share_proofs.user_id is 'the user';
comment on column share_proofs.difficulty is 'share difficulty that the header proves';
comment on column share_proofs.found_at is 'time of the share';
comment on column share_proofs.header is '80 bytes';
comment on column share_proofs.coinbase is 'the coinbase transaction, without witness';
comment on column share_proofs.branch is 'hashes of the Merkle branch, 32 bytes each';

comment on view share_claims is 'Bests that a published week rests on, with their proofs where there are some.';
comment on column share_claims.share_hash is '64 hex digits';
comment on column share_claims.user is 'address of the user';
comment on column share_claims.worker is 'name of the worker';
comment on column share_claims.difficulty is 'share difficulty';
comment on column share_claims.found_at is 'time of the share';
comment on column share_claims.week_start is 'Monday of the share''s week';
comment on column share_claims.rank is 'rank in that week';
comment on column share_claims.coinbase_sig is 'signature of the pool in the coinbase';
comment on column share_claims.counted_week is 'Monday of the week in which it counts';
comment on column share_claims.header is '80 bytes';
comment on column share_claims.coinbase is 'the coinbase transaction, without witness';
comment on column share_claims.branch is 'hashes of the Merkle branch';

comment on table blocks is 'Blocks that were found, and what became of them.';
comment on column blocks.id is 'number of the block, in this database alone';
comment on column blocks.block_height is 'height that the engine reported';
comment on column blocks.block_hash is '64 hex digits';
comment on column blocks.prev_hash is '64 hex digits: the block before';
comment on column blocks.user_id is 'the finder';
comment on column blocks.worker_id is 'the finder''s worker';
comment on column blocks.reward_sats is 'satoshis, fees included';
comment on column blocks.fees_sats is 'satoshis of fees; null if the engine does not know them';
comment on column blocks.reward_btc is 'reward_sats in BTC';
comment on column blocks.difficulty is 'share difficulty of the block';
comment on column blocks.network_difficulty is 'difficulty that the network asked for';
comment on column blocks.coinbase_sig is 'signature of the pool in the coinbase';
comment on column blocks.confirmations is 'blocks on top, this one included';
comment on column blocks.status is 'found, accepted, confirmed, orphaned or rejected';
comment on column blocks.found_at is 'time that the engine gave it';
comment on column blocks.confirmed_at is 'time at which it became final';
comment on column blocks.source is 'hosted, or simulated';
comment on column blocks.status_changes is 'how often the status changed';
comment on column blocks.chain_height is 'height by the node, where it differs from block_height';

comment on table network_blocks is 'Tips of the chain that engines saw.';
comment on column network_blocks.hash is '64 hex digits';
comment on column network_blocks.height is 'height';
comment on column network_blocks.network_difficulty is 'difficulty that the network asks for';
comment on column network_blocks.prev_hash is '64 hex digits: the block before';
comment on column network_blocks.seen_at is 'time at which the first engine saw it';
comment on column network_blocks.source is 'hosted, or simulated';

comment on view network_tips is 'Tips of the chain in the order in which they were seen.';
comment on column network_tips.hash is '64 hex digits';
comment on column network_tips.height is 'height';
comment on column network_tips.seen_at is 'time at which it became the tip';
comment on column network_tips.replaced_at is 'time at which the next one did; null for the newest';

comment on table network_difficulty is 'Spans of blocks with one network difficulty.';
comment on column network_difficulty.first_height is 'first height that was seen';
comment on column network_difficulty.last_height is 'last height that was seen';
comment on column network_difficulty.network_difficulty is 'difficulty that the network asks for';
comment on column network_difficulty.blocks is 'blocks that were seen';
comment on column network_difficulty.first_seen is 'time of the first';
comment on column network_difficulty.last_seen is 'time of the last';
comment on column network_difficulty.block_seconds is 'average seconds between two blocks; null if one was seen';

comment on table weekly_best_diff is 'Each user''s best share of each week.';
comment on column weekly_best_diff.user_id is 'the user';
comment on column weekly_best_diff.week_start is 'Monday of the ISO week (UTC)';
comment on column weekly_best_diff.best_difficulty is 'greatest share difficulty';
comment on column weekly_best_diff.best_share_time is 'time of that share';
comment on column weekly_best_diff.best_worker_id is 'its worker';
comment on column weekly_best_diff.best_share_hash is 'its hash';
comment on column weekly_best_diff.total_shares is 'valid shares of the week';
comment on column weekly_best_diff.total_work is 'sum of the difficulty of valid shares';
comment on column weekly_best_diff.finalized_at is 'time of the reset; null while the row is provisional';
comment on column weekly_best_diff.rank is '1 is the winner; null while the row is provisional';

comment on view weekly_standings is 'The weeks with a rank in each, the running one included.';
comment on column weekly_standings.user_id is 'the user';
comment on column weekly_standings.week_start is 'Monday of the ISO week (UTC)';
comment on column weekly_standings.best_difficulty is 'greatest share difficulty';
comment on column weekly_standings.best_share_time is 'time of that share';
comment on column weekly_standings.best_worker_id is 'its worker';
comment on column weekly_standings.best_share_hash is 'its hash';
comment on column weekly_standings.total_shares is 'valid shares of the week';
comment on column weekly_standings.total_work is 'sum of the difficulty of valid shares';
comment on column weekly_standings.rank is '1 leads';
comment on column weekly_standings.finalized_at is 'time of the reset; null while the week is open';
comment on column weekly_standings.provisional is 'whether the week is not final';

comment on table weekly_publications is 'What was published of each week; a correction is the next revision.';
comment on column weekly_publications.week_start is 'Monday of the ISO week (UTC)';
comment on column weekly_publications.revision is '1 for the result, one more for each correction';
comment on column weekly_publications.result is 'what was published, as in docs/messages.md';
comment on column weekly_publications.published_at is 'time of the publication';

comment on table week_releases is 'Bests that a person let pass although their proof fails.';
comment on column week_releases.week_start is 'Monday of the ISO week (UTC)';
comment on column week_releases.share_hash is 'hash of the share';
comment on column week_releases.user_id is 'the user';
comment on column week_releases.failure is 'what failed';
comment on column week_releases.released_by is 'the person';
comment on column week_releases.reason is 'why';
comment on column week_releases.released_at is 'time of the decision';

comment on view bests is 'Best shares by user and worker, of a session, a week and all time.';
comment on column bests.scope is 'user or worker';
comment on column bests.period is 'session, week or alltime';
comment on column bests.since is 'beginning of the period';
comment on column bests.btc_address is 'address of the user';
comment on column bests.worker_name is 'name of the worker; null for a user';
comment on column bests.best_difficulty is 'greatest share difficulty';
comment on column bests.found_at is 'time of the share; null if only the engine knows it';
comment on column bests.share_hash is '64 hex digits';
comment on column bests.shares is 'valid shares of the period';
comment on column bests.work is 'sum of the difficulty of valid shares';
comment on column bests.chance is '0 to 1: of doing as well or better with that work';

comment on view user_bests is 'Each user''s bests side by side.';
comment on column user_bests.user_id is 'the user';
comment on column user_bests.btc_address is 'address';
comment on column user_bests.display_name is 'as in users';
comment on column user_bests.session_since is 'beginning of the newest engine boot that has a best';
comment on column user_bests.session_best is 'share difficulty';
comment on column user_bests.week_start is 'Monday of the running week';
comment on column user_bests.week_best is 'share difficulty';
comment on column user_bests.week_best_at is 'time of that share';
comment on column user_bests.alltime_best is 'share difficulty';
comment on column user_bests.alltime_best_at is 'time of that share';
comment on column user_bests.alltime_week is 'Monday of its week';

comment on table engine_instances is 'Engine boots, and which of their numbers were seen.';
comment on column engine_instances.id is 'number of the engine boot, in this database alone';
comment on column engine_instances.instance is 'name/microseconds of its start';
comment on column engine_instances.source is 'hosted, or simulated';
comment on column engine_instances.first_seen is 'time of the first event that was committed';
comment on column engine_instances.last_seen is 'time of the newest one';
comment on column engine_instances.seq_max is 'highest number that was seen';
comment on column engine_instances.seq_missing is 'numbers below it that were not seen';
comment on column engine_instances.events is 'events that were committed';
comment on column engine_instances.duplicates is 'events that came again';
comment on column engine_instances.seq_floor is 'numbers below it are looked up in the tables instead of seq_missing';
comment on column engine_instances.seq_declared is 'highest number that the engine says it gave; null if it says nothing';
comment on column engine_instances.unsent is 'numbers that were never handed to the socket; null if unknown';
comment on column engine_instances.state is 'running, ended or crashed, as the engine says; null if it says nothing';
comment on column engine_instances.declared_at is 'time of the newest engine status';

comment on view engine_endings is 'How each engine boot ended, as far as anything vouches for it.';
comment on column engine_endings.instance_id is 'the engine boot';
comment on column engine_endings.instance is 'its name';
comment on column engine_endings.seq_emitted is 'highest number that is known of';
comment on column engine_endings.unsent is 'numbers that were never handed to the socket';
comment on column engine_endings.state is 'as in engine_instances';
comment on column engine_endings.heard_at is 'time of the newest sign of life';
comment on column engine_endings.ending is 'running, ended or unknown';

comment on table ledger is 'Counts of each engine boot and hour, as receivers and the writer keep them.';
comment on column ledger.instance_id is 'the engine boot';
comment on column ledger.hour is 'beginning of the hour of the events'' own time';
comment on column ledger.received is 'events that receivers read from the socket';
comment on column ledger.first_seq is 'lowest number that was committed or refused';
comment on column ledger.last_seq is 'highest number that was committed or refused';
comment on column ledger.committed is 'events that became rows';
comment on column ledger.dead_lettered is 'events that were refused';
comment on column ledger.duplicates is 'events that came again';
comment on column ledger.skew_min is 'microseconds that the events'' time was ahead of the receiver''s clock: least';
comment on column ledger.skew_max is 'the same: most';
comment on column ledger.seq_read is 'highest number that a receiver read from the socket';

comment on table ledger_drops is 'Numbers that were lost where it was counted.';
comment on column ledger_drops.instance_id is 'the engine boot';
comment on column ledger_drops.cause is 'stage/reason';
comment on column ledger_drops.numbers is 'the numbers';

comment on view ledger_hours is 'The share ledger as it is now: what became of every number.';
comment on column ledger_hours.instance is 'the engine boot';
comment on column ledger_hours.source is 'hosted, or simulated';
comment on column ledger_hours.instance_id is 'its number';
comment on column ledger_hours.hour is 'beginning of the hour';
comment on column ledger_hours.emitted is 'numbers that the engine gave';
comment on column ledger_hours.received is 'events that receivers read';
comment on column ledger_hours.published is 'events that reached Redis';
comment on column ledger_hours.committed is 'events that became rows';
comment on column ledger_hours.dead_lettered is 'events that were refused';
comment on column ledger_hours.duplicates is 'events that came again';
comment on column ledger_hours.dropped is 'events that were lost where it was counted';
comment on column ledger_hours.dropped_by_cause is 'the same, by stage/reason';
comment on column ledger_hours.missing is 'numbers without a row, a dead letter or a report';
comment on column ledger_hours.unexplained is 'missing, and the hour has closed';

comment on table share_ledger is 'The share ledger of closed hours; kept for ever.';
comment on column share_ledger.hour is 'beginning of the hour';
comment on column share_ledger.instance_id is 'the engine boot';
comment on column share_ledger.emitted is 'numbers that the engine gave';
comment on column share_ledger.received is 'events that receivers read';
comment on column share_ledger.published is 'events that reached Redis';
comment on column share_ledger.committed is 'events that became rows';
comment on column share_ledger.dead_lettered is 'events that were refused';
comment on column share_ledger.duplicates is 'events that came again';
comment on column share_ledger.dropped is 'events that were lost where it was counted';
comment on column share_ledger.dropped_by_cause is 'the same, by stage/reason';
comment on column share_ledger.missing is 'numbers without a row, a dead letter or a report';
comment on column share_ledger.unexplained is 'missing at the time of closing';
comment on column share_ledger.closed_at is 'time at which it was closed last';

comment on table report_processes is 'Receivers'' processes, so that a report counts once.';
comment on column report_processes.process is 'the process';
comment on column report_processes.reports is 'reports of it that were counted';
comment on column report_processes.last_seen is 'time of the newest';

comment on table dead_letters is 'Events that were refused, with their bytes.';
comment on column dead_letters.id is 'number of the letter';
comment on column dead_letters.received_at is 'time of the refusal';
comment on column dead_letters.stage is 'receiver, writer or notifier';
comment on column dead_letters.reason is 'a word that is counted by';
comment on column dead_letters.detail is 'a sentence';
comment on column dead_letters.raw is 'the datagram, or the entry''s fields';
comment on column dead_letters.instance is 'the engine boot, where it could be read';
comment on column dead_letters.seq is 'its number, where it could be read';
comment on column dead_letters.counted_in is 'hour of the ledger that counts it; null without a number of its own';
comment on column dead_letters.replayed_at is 'time at which it was brought back; null if it was not';

comment on table stream_offsets is 'How far each stream is committed, in the transaction of the rows.';
comment on column stream_offsets.consumer is 'name of the writer';
comment on column stream_offsets.stream is 'key of the stream';
comment on column stream_offsets.last_id is 'id of the last committed entry';
comment on column stream_offsets.entries is 'entries that were read since the stream began';
comment on column stream_offsets.updated_at is 'time of the newest commit';
comment on column stream_offsets.redis is 'identity of the Redis that the stream is in';
comment on column stream_offsets.entry is 'digest of the last committed entry';
comment on column stream_offsets.unmarked is 'entries that were committed since the newest mark';

comment on table stream_marks is 'Entries from which a writer can find its way back after Redis lost some.';
comment on column stream_marks.redis is 'identity of the Redis';
comment on column stream_marks.stream is 'key of the stream';
comment on column stream_marks.last_id is 'id of the entry';
comment on column stream_marks.entry is 'digest of the entry';
comment on column stream_marks.entries is 'entries that were committed since the mark before';
comment on column stream_marks.unnumbered is 'digests of events without a number since the mark before';
comment on column stream_marks.committed_at is 'time of the commit';

comment on table late_share_hours is 'Closed hours that got a share later, and how many of them each rollup has taken in.';
comment on column late_share_hours.hour is 'beginning of the hour';
comment on column late_share_hours.shares is 'late shares';
comment on column late_share_hours.first_recorded_at is 'time of the first';
comment on column late_share_hours.last_recorded_at is 'time of the newest';
comment on column late_share_hours.settled_hourly is 'late shares that the hour''s rollup has';
comment on column late_share_hours.settled_daily is 'late shares that the day''s statistics have';
comment on column late_share_hours.settled_weekly is 'late shares that the published week has';
comment on column late_share_hours.computed_daily is 'late shares that were there when the day''s computation began';
comment on column late_share_hours.computed_weekly is 'late shares that were there when the week''s computation began';

comment on table skewed_hours is 'Hours in which an engine gave impossible times.';
comment on column skewed_hours.hour is 'beginning of the hour';
comment on column skewed_hours.instance_id is 'the engine boot; 0 for events that name none';
comment on column skewed_hours.kind is 'ahead or behind: how its times are wrong';
comment on column skewed_hours.noticed_at is 'time at which it was noticed';
comment on column skewed_hours.decision is 'a person''s: keep or leave out; null and left out until then';

comment on table rollup_progress is 'How far the rollup has read the raw shares; one row.';
comment on column rollup_progress.only_row is 'always true';
comment on column rollup_progress.read_until is 'shares of an hour before it that are stored later are late';

comment on table worker_stats_daily is 'Statistics of each worker and day (UTC).';
comment on column worker_stats_daily.day is 'the day';
comment on column worker_stats_daily.user_id is 'the user';
comment on column worker_stats_daily.worker_id is 'the worker';
comment on column worker_stats_daily.accepted is 'valid shares';
comment on column worker_stats_daily.rejected is 'refused shares';
comment on column worker_stats_daily.reject_ratio is '0 to 1: refused of all';
comment on column worker_stats_daily.rejects_by_reason is 'refused shares by reason';
comment on column worker_stats_daily.work is 'sum of the difficulty of valid shares';
comment on column worker_stats_daily.hashrate is 'hashes per second over the whole day';
comment on column worker_stats_daily.hashrate_low is 'the same: lower end of the 95 % confidence interval';
comment on column worker_stats_daily.hashrate_high is 'upper end of it';
comment on column worker_stats_daily.hashrate_up is 'hashes per second while the worker was up';
comment on column worker_stats_daily.uptime_seconds is 'seconds that the worker was up';
comment on column worker_stats_daily.longest_gap_seconds is 'seconds between two shares of the day, at most';
comment on column worker_stats_daily.best_share_diff is 'greatest share difficulty';
comment on column worker_stats_daily.luck is 'best share difficulty over the median for this work';
comment on column worker_stats_daily.luck_percentile is '0 to 1: chance of doing no better with this work';

comment on table worker_liveness is 'Workers that were silent for longer than their pace allows.';
comment on column worker_liveness.worker_id is 'the worker';
comment on column worker_liveness.silent_since is 'time of its last sign of life';
comment on column worker_liveness.marked_at is 'time at which it was marked offline';
comment on column worker_liveness.expected_gap_seconds is 'average seconds between two shares';
comment on column worker_liveness.allowed_gap_seconds is 'seconds that it may be silent';
comment on column worker_liveness.alerted_at is 'time of the alert; null before';
comment on column worker_liveness.back_since is 'time of its return; null while it is silent';

comment on table worker_allowances is 'How long a worker may be silent, from the last look at its pace.';
comment on column worker_allowances.worker_id is 'the worker';
comment on column worker_allowances.allowed is 'length of silence that is allowed';
comment on column worker_allowances.difficulty is 'difficulty that it was held to then';
comment on column worker_allowances.judged_at is 'time of the look';

comment on table worker_naps is 'Short silences of workers, by hour.';
comment on column worker_naps.worker_id is 'the worker';
comment on column worker_naps.hour is 'beginning of the hour';
comment on column worker_naps.naps is 'short silences that began in it';

comment on table worker_flaps is 'Workers that come and go all day.';
comment on column worker_flaps.worker_id is 'the worker';
comment on column worker_flaps.naps is 'short silences at the last message';
comment on column worker_flaps.told_at is 'time of the last message';

comment on table block_odds is 'Chances of a block at the present hash rate.';
comment on column block_odds.scope is 'pool or worker';
comment on column block_odds.worker_id is 'the worker; 0 for the pool';
comment on column block_odds.user_id is 'the user; null for the pool';
comment on column block_odds.hashrate is 'hashes per second';
comment on column block_odds.network_difficulty is 'difficulty that the network asks for';
comment on column block_odds.expected_seconds is 'average seconds to a block';
comment on column block_odds.chance_day is '0 to 1: of a block within a day';
comment on column block_odds.chance_week is '0 to 1: within a week';
comment on column block_odds.chance_year is '0 to 1: within a year';
comment on column block_odds.computed_at is 'time of the computation';

comment on table outbox is 'Messages that were committed and are on their way: docs/messages.md.';
comment on column outbox.id is 'number of the message; the order of sending';
comment on column outbox.stream is 'stream in Redis, or notify:<name> for the notifier alone';
comment on column outbox.key is 'name that is used once';
comment on column outbox.event is 'the stream''s name without mining:';
comment on column outbox.source is 'hosted, or simulated';
comment on column outbox.payload is 'data of the message';
comment on column outbox.created_at is 'time of the change that it reports';
comment on column outbox.sent_at is 'time at which Redis took it; null before';
comment on column outbox.entry_id is 'id of the entry in Redis';
comment on column outbox.planned_at is 'time at which the notifier planned it; null before';

comment on table alert_deliveries is 'What becomes of each message on each route.';
comment on column alert_deliveries.message_id is 'number in outbox';
comment on column alert_deliveries.route is 'name of the route';
comment on column alert_deliveries.state is 'waiting, sent, dropped or failed';
comment on column alert_deliveries.reason is 'why it was dropped, or the last answer';
comment on column alert_deliveries.workers is 'workers that the route is about';
comment on column alert_deliveries.planned_at is 'time of the plan';
comment on column alert_deliveries.due_at is 'time from which it may be sent';
comment on column alert_deliveries.attempts is 'tries so far';
comment on column alert_deliveries.sent_at is 'time at which every target had it';
comment on column alert_deliveries.taken_by is 'targets that have taken it';
comment on column alert_deliveries.refused_by is 'targets that refused it for good';

comment on table alert_targets is 'Targets of routes that take nothing now.';
comment on column alert_targets.route is 'name of the route';
comment on column alert_targets.target is 'digest of the target''s address';
comment on column alert_targets.label is 'name of the target without secrets';
comment on column alert_targets.failures is 'failures since it last took a message';
comment on column alert_targets.failing_from is 'time of the first';
comment on column alert_targets.pause_until is 'time before which it is not asked';
comment on column alert_targets.permanent is 'whether the refusal is for good';
comment on column alert_targets.answer is 'its last answer';

comment on table alert_marks is 'What the notifier last saw or sent about a subject.';
comment on column alert_marks.subject is 'the subject';
comment on column alert_marks.value is 'what was seen';
comment on column alert_marks.told_at is 'time of the last message or look';

comment on table alert_mutes is 'Workers and users about whose silence nothing is sent.';
comment on column alert_mutes.btc_address is 'address of the user';
comment on column alert_mutes.worker is 'name of the worker';
comment on column alert_mutes.all_workers is 'whether all workers of the address are meant';
comment on column alert_mutes.until is 'end of the mute';

comment on table check_faults is 'Places at which a check failed and that it must look at again.';
comment on column check_faults.check_name is 'name of the check';
comment on column check_faults.place is 'an hour, day, week or other place';
comment on column check_faults.found_at is 'time at which it failed first';

comment on table database_identity is 'The name of this database, for the archive.';
comment on column database_identity.only_row is 'always true';
comment on column database_identity.id is 'the identity';

comment on table adopted_databases is 'Databases whose archive this one has taken over.';
comment on column adopted_databases.id is 'identity of the other database';
comment on column adopted_databases.adopted_at is 'time of the decision';

comment on table restored_days is 'Days that were brought back from the archive.';
comment on column restored_days.day is 'the day (UTC)';
comment on column restored_days.revision is 'revision of the archive';
comment on column restored_days.restored_at is 'time of the restore';
comment on column restored_days.keep_until is 'time until which retention leaves it';
