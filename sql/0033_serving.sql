-- depends: 0017a_bests 0021b_bounded 0021a_replayed_letters
-- What tbg serve reads, by a role that cannot write, and that sees no miner's IP address.

-- Shares without the miner's address, and without what only a check of the share needs.
create view served_shares as
select time, user_id, worker_id, is_valid, share_diff, bounded(difficulty) as difficulty,
    reject_reason
from shares;

-- When workers connected and disconnected, without their addresses.
create view served_connections as
select time, event, payload ->> 'user' as btc_address, payload ->> 'worker' as worker_name
from mining_events
where event in ('miner_connected', 'miner_disconnected');

-- As before, of any numbers: the sums of absurd ones overflowed.
create or replace function worker_bests_of(
    of_worker integer, since timestamptz, days_end timestamptz, hours_end timestamptz
)
returns table (
    user_id integer,
    worker_id integer,
    best_difficulty double precision,
    found_at timestamptz,
    share_hash bytea,
    shares bigint,
    work double precision
)
language plpgsql stable as $$
#variable_conflict use_column
declare
    first_hour timestamptz := date_bin(
        '1 hour', since + interval '1 hour' - interval '1 microsecond', '2000-01-01Z');
    first_day timestamptz := date_bin(
        '1 day', since + interval '1 day' - interval '1 microsecond', '2000-01-01Z');
    rest timestamptz := greatest(first_hour, days_end, hours_end);
begin
    return query
    with parts as (
        select d.user_id, d.best_share_diff, d.bucket, interval '1 day' as span, d.accepted,
            least(d.work, 1e290) as work
        from shares_daily d
        where d.worker_id = of_worker and d.bucket >= first_day and d.bucket < days_end
        union all
        select h.user_id, h.best_share_diff, h.bucket, interval '1 hour', h.accepted, least(h.work, 1e290)
        from shares_hourly h
        where h.worker_id = of_worker and h.bucket < hours_end
          and h.bucket >= greatest(first_hour, case when days_end > first_day then days_end end)
        union all
        select h.user_id, h.best_share_diff, h.bucket, interval '1 hour', h.accepted, least(h.work, 1e290)
        from shares_hourly h
        where h.worker_id = of_worker and h.bucket < hours_end
          and h.bucket >= first_hour and h.bucket < first_day and days_end > first_day
        union all
        select s.user_id, s.share_diff, s.time, interval '0', 1, bounded(s.difficulty)
        from shares s
        where s.worker_id = of_worker and s.is_valid and s.time >= since and s.time < first_hour
        union all
        select s.user_id, s.share_diff, s.time, interval '0', 1, bounded(s.difficulty)
        from shares s
        where s.worker_id = of_worker and s.is_valid and s.time >= rest
    ),
    top as (
        select p.user_id, p.best_share_diff, p.bucket, p.span
        from parts p
        where p.best_share_diff is not null
        order by p.best_share_diff desc, p.bucket
        limit 1
    )
    select t.user_id, of_worker, t.best_share_diff, coalesce(r.time, t.bucket), r.share_hash,
        p.shares, p.work
    from top t
    cross join (select sum(accepted)::bigint as shares, sum(work) as work from parts) p
    left join lateral (
        select x.time, x.share_hash
        from shares x
        where x.worker_id = of_worker and x.is_valid and x.share_diff = t.best_share_diff
          and x.time >= t.bucket and x.time <= t.bucket + t.span
        order by x.time
        limit 1
    ) r on true;
end
$$;

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

revoke execute on function served_worker_bests from public;

comment on view served_shares is 'Shares as tbg serve may read them: without the address of the miner.';
comment on column served_shares.time is 'as in shares';
comment on column served_shares.user_id is 'as in shares';
comment on column served_shares.worker_id is 'as in shares';
comment on column served_shares.is_valid is 'as in shares';
comment on column served_shares.share_diff is 'as in shares';
comment on column served_shares.difficulty is 'as in shares, within what can be computed with';
comment on column served_shares.reject_reason is 'as in shares';

comment on view served_connections is 'When workers connected and disconnected, without addresses of miners.';
comment on column served_connections.time is 'time that the engine gave the event';
comment on column served_connections.event is 'miner_connected or miner_disconnected';
comment on column served_connections.btc_address is 'address of the user; text of a stranger';
comment on column served_connections.worker_name is 'name of the worker; text of a stranger';
