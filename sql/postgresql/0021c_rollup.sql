-- depends: 0013_rollup 0021b_bounded
-- The rollups of plain PostgreSQL, of any numbers.

-- As before, and work is the sum of difficulties within the contract's bounds.
create or replace function rebuild_shares_hourly(range_start timestamptz, range_end timestamptz)
returns bigint
language plpgsql as $$
declare
    made bigint;
begin
    if date_trunc('hour', range_start, 'UTC') <> range_start
        or date_trunc('hour', range_end, 'UTC') <> range_end then
        raise exception 'rebuild_shares_hourly: % to % are not whole hours', range_start, range_end;
    end if;
    -- Two rebuilds of one range would each delete the other's rows too late.
    perform pg_advisory_xact_lock(hashtext('tbg rollup'));
    delete from shares_hourly where bucket >= range_start and bucket < range_end;
    insert into shares_hourly
    select
        date_bin('1 hour', time, 'epoch'),
        user_id,
        worker_id,
        count(*),
        count(*) filter (where is_valid),
        count(*) filter (where not is_valid),
        coalesce(sum(bounded(difficulty)) filter (where is_valid), 0),
        max(share_diff) filter (where is_valid),
        min(time),
        max(time)
    from shares
    where time >= range_start and time < range_end
    group by user_id, worker_id, 1
    order by user_id, worker_id, 1;
    get diagnostics made = row_count;
    return made;
end
$$;

-- As before, likewise.
create or replace function rebuild_shares_daily(range_start timestamptz, range_end timestamptz)
returns bigint
language plpgsql as $$
declare
    day timestamptz := range_start;
    made bigint;
    total bigint := 0;
begin
    if date_trunc('day', range_start, 'UTC') <> range_start
        or date_trunc('day', range_end, 'UTC') <> range_end then
        raise exception 'rebuild_shares_daily: % to % are not whole days', range_start, range_end;
    end if;
    perform pg_advisory_xact_lock(hashtext('tbg rollup'));
    delete from shares_daily where bucket >= range_start and bucket < range_end;
    while day < range_end loop
        insert into shares_daily
        select
            day,
            user_id,
            worker_id,
            sum(shares)::bigint,
            sum(accepted)::bigint,
            sum(rejected)::bigint,
            sum(least(work, 1e290)),
            max(best_share_diff),
            min(first_share),
            max(last_share)
        from shares_hourly
        where bucket >= day and bucket < day + interval '24 hours'
        group by user_id, worker_id
        order by user_id, worker_id;
        get diagnostics made = row_count;
        total := total + made;
        day := day + interval '24 hours';
    end loop;
    return total;
end
$$;
