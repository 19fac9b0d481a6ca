-- depends: 0040_comments 0016c_retention
-- The rollups are continuous aggregates here, which PostgreSQL knows as views.

comment on view shares_hourly is 'Shares by hour (UTC) and worker; kept for ever.';
comment on column shares_hourly.bucket is 'beginning of the hour';
comment on column shares_hourly.user_id is 'the user';
comment on column shares_hourly.worker_id is 'the worker; null if the events name none';
comment on column shares_hourly.shares is 'shares, valid or not';
comment on column shares_hourly.accepted is 'valid shares';
comment on column shares_hourly.rejected is 'refused shares';
comment on column shares_hourly.work is 'sum of the difficulty of valid shares; times 2^32 it is hashes';
comment on column shares_hourly.best_share_diff is 'greatest share difficulty of a valid share';
comment on column shares_hourly.first_share is 'time of the first share';
comment on column shares_hourly.last_share is 'time of the last share';

comment on view shares_daily is 'Shares by day (UTC) and worker; kept for ever.';
comment on column shares_daily.bucket is 'beginning of the day';
comment on column shares_daily.user_id is 'the user';
comment on column shares_daily.worker_id is 'the worker; null if the events name none';
comment on column shares_daily.shares is 'shares, valid or not';
comment on column shares_daily.accepted is 'valid shares';
comment on column shares_daily.rejected is 'refused shares';
comment on column shares_daily.work is 'sum of the difficulty of valid shares; times 2^32 it is hashes';
comment on column shares_daily.best_share_diff is 'greatest share difficulty of a valid share';
comment on column shares_daily.first_share is 'time of the first share';
comment on column shares_daily.last_share is 'time of the last share';
