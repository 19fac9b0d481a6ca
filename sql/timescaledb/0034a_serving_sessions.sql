-- depends: 0034_serving_indexes
-- transactional: false
-- When a worker connected last: a user with many workers has many connections.
drop index if exists mining_events_sessions;
create index mining_events_sessions
on mining_events ((payload ->> 'user'), (payload ->> 'worker'), time desc)
with (timescaledb.transaction_per_chunk)
where event = 'miner_connected';
