-- depends: 0034_serving_indexes
-- When a worker connected last: a user with many workers has many connections.
create index mining_events_sessions
on mining_events ((payload ->> 'user'), (payload ->> 'worker'), time desc)
where event = 'miner_connected';
