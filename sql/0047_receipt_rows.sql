-- depends: 0011_serving
-- What a receipt is made of, for a role that sees no miner's IP address.

-- The digest of an event that is no share: event, source and data, each with its length in front.
-- Not the miner's address: it could be guessed from a digest that other people get to see.
create function event_digest(event text, source text, payload jsonb) returns bytea
language sql stable strict parallel safe as $$
    select sha256(
        int4send(octet_length(event)) || convert_to(event, 'UTF8')
        || int4send(octet_length(source)) || convert_to(source, 'UTF8')
        || int4send(octet_length(data)) || convert_to(data, 'UTF8')
    )
    from (select (payload - 'ip')::text as data) d
$$;

create view receipt_shares as
select time, instance_id, seq, user_id, worker_id, difficulty, share_diff, is_valid, reject_reason,
    share_hash, source
from shares;

create view receipt_events as
select time, instance_id, seq, source, event_digest(event, source::text, payload) as digest
from mining_events;

create or replace function grant_serving(role name) returns void
language plpgsql as $$
begin
    execute format('grant usage on schema %I to %I', current_schema(), role);
    execute format(
        'grant select on users, workers, workers_seen, user_bests, weekly_best_diff, '
        'weekly_publications, blocks, block_odds, network_blocks, network_difficulty, '
        'shares_hourly, shares_daily, worker_stats_daily, share_ledger, ledger, share_proofs, '
        'served_shares, served_connections, engine_instances, receipt_shares, receipt_events, '
        'receipt_trees, receipt_roots to %I',
        role
    );
    execute format('grant execute on function served_worker_bests to %I', role);
end
$$;

comment on function event_digest is 'SHA-256 of an event without the address of the miner, as a receipt has it';

comment on view receipt_shares is 'Shares as receipts have them: without the address of the miner.';
comment on column receipt_shares.time is 'as in shares';
comment on column receipt_shares.instance_id is 'as in shares';
comment on column receipt_shares.seq is 'as in shares';
comment on column receipt_shares.user_id is 'as in shares';
comment on column receipt_shares.worker_id is 'as in shares';
comment on column receipt_shares.difficulty is 'as in shares';
comment on column receipt_shares.share_diff is 'as in shares';
comment on column receipt_shares.is_valid is 'as in shares';
comment on column receipt_shares.reject_reason is 'as in shares';
comment on column receipt_shares.share_hash is 'as in shares';
comment on column receipt_shares.source is 'as in shares';

comment on view receipt_events is 'Other events as receipts have them: a digest of what they say.';
comment on column receipt_events.time is 'as in mining_events';
comment on column receipt_events.instance_id is 'as in mining_events';
comment on column receipt_events.seq is 'as in mining_events';
comment on column receipt_events.source is 'as in mining_events';
comment on column receipt_events.digest is 'event_digest of event, source and data';
