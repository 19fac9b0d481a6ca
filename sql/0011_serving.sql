-- depends: 0010_audit
-- What tbg serve reads, by a role that cannot write, and that sees no miner's IP address.

-- Shares without the miner's address, and without what only a check of the share needs.
create view served_shares as
select time, user_id, worker_id, is_valid, share_diff, bounded(difficulty) as difficulty,
    reject_reason
from shares;

comment on view served_shares is 'Shares as tbg serve may read them: without the address of the miner.';
comment on column served_shares.time is 'as in shares';
comment on column served_shares.user_id is 'as in shares';
comment on column served_shares.worker_id is 'as in shares';
comment on column served_shares.is_valid is 'as in shares';
comment on column served_shares.share_diff is 'as in shares';
comment on column served_shares.difficulty is 'as in shares, within what can be computed with';
comment on column served_shares.reject_reason is 'as in shares';

-- When workers connected and disconnected, without their addresses.
create view served_connections as
select time, event, payload ->> 'user' as btc_address, payload ->> 'worker' as worker_name
from mining_events
where event in ('miner_connected', 'miner_disconnected');

comment on view served_connections is 'When workers connected and disconnected, without addresses of miners.';
comment on column served_connections.time is 'time that the engine gave the event';
comment on column served_connections.event is 'miner_connected or miner_disconnected';
comment on column served_connections.btc_address is 'address of the user; text of a stranger';
comment on column served_connections.worker_name is 'name of the worker; text of a stranger';

-- As worker_bests_of; the rollups of a worker end where its own do. Its owner's rights: the
-- caller cannot read the shares.
create function served_worker_bests(of_worker integer, since timestamptz)
returns table (
    best_difficulty double precision,
    found_at timestamptz,
    share_hash bytea,
    shares bigint,
    work double precision
)
language sql stable security definer set search_path from current as $$
    select b.best_difficulty, b.found_at, b.share_hash, b.shares, b.work
    from worker_bests_of(
        of_worker,
        since,
        coalesce(
            (select max(bucket) + interval '1 day' from shares_daily where worker_id = of_worker),
            '-infinity'
        ),
        coalesce(
            (select max(bucket) + interval '1 hour' from shares_hourly where worker_id = of_worker),
            '-infinity'
        )
    ) b
$$;

revoke execute on function served_worker_bests from public;

-- Lets a role read what is served, and nothing else; safe to repeat. tbg migrate does so for
-- the role tbg_serve, if there is one.
create function grant_serving(role name) returns void
language plpgsql as $$
begin
    execute format('grant usage on schema %I to %I', current_schema(), role);
    execute format(
        'grant select on users, workers, workers_seen, user_bests, weekly_best_diff, '
        'weekly_publications, blocks, block_odds, network_blocks, network_difficulty, '
        'shares_hourly, shares_daily, worker_stats_daily, share_ledger, ledger, share_proofs, '
        'served_shares, served_connections, receipt_roots to %I',
        role
    );
    execute format('grant execute on function served_worker_bests to %I', role);
end
$$;
