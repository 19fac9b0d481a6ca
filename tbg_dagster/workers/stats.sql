-- What the shares of a day say of each worker, one row per worker.
--
-- Uptime adds up the gaps between a worker's shares that chance explains. Share
-- times are a Poisson process: the median gap is ln 2 of the mean one (and hardly
-- moved by outages), and a gap above 14 means has a chance of 1 in a million.
--
-- Sums are exact, so that no order of the shares matters: as numeric, once for each
-- difficulty. The gaps need the times alone, which an index holds in order.
with counted as materialized (
    select
        worker_id,
        user_id,
        difficulty,
        case when not is_valid then coalesce(reject_reason, 'unknown') end as reason,
        count(*) as shares,
        max(share_diff) as best_share_diff
    from shares
    where time >= %(start)s and time < %(end)s
    group by 1, 2, 3, 4
),
per_worker as (
    select
        worker_id,
        min(user_id) as user_id,
        coalesce(sum(shares) filter (where reason is null), 0)::bigint as accepted,
        coalesce(sum(shares) filter (where reason is not null), 0)::bigint as rejected,
        coalesce(sum(shares * bounded(difficulty)::numeric) filter (where reason is null), 0)
            ::double precision as work,
        coalesce(sum(shares * (bounded(difficulty) * bounded(difficulty))::numeric) filter (where reason is null), 0)
            ::double precision as work_squared,
        bounded(max(best_share_diff) filter (where reason is null)) as best_share_diff
    from counted
    group by worker_id
),
reasons as (
    select worker_id, jsonb_object_agg(reason, rejects order by reason) as rejects_by_reason
    from (
        select worker_id, reason, sum(shares)::bigint as rejects
        from counted
        where reason is not null
        group by 1, 2
    ) rejected
    group by worker_id
),
gaps as (
    select
        worker_id,
        max(gap) as longest_gap,
        count(gap) as gaps,
        array_agg(gap order by gap) as gap,
        sum(gap order by gap) as total
    from (
        select
            worker_id,
            -- From the newest share back, as the index has them.
            date_part('epoch', lag(time) over (partition by worker_id order by time desc) - time)
                as gap
        from shares
        where time >= %(start)s and time < %(end)s
    ) timed
    group by worker_id
),
paced as (
    select
        *,
        greatest(60, 14 / ln(2.0) * (gap[(gaps + 1) / 2] + gap[gaps / 2 + 1]) / 2) as allowed_gap
    from gaps
)
select
    p.worker_id,
    p.user_id,
    p.accepted,
    p.rejected,
    p.work,
    p.work_squared,
    p.best_share_diff,
    g.longest_gap,
    case
        when g.longest_gap <= g.allowed_gap then g.total  -- of most
        else (select coalesce(sum(one), 0) from unnest(g.gap) one where one <= g.allowed_gap)
    end as uptime,
    case
        when g.longest_gap <= g.allowed_gap then g.gaps
        else (select count(*) from unnest(g.gap) one where one <= g.allowed_gap)
    end as explained,
    coalesce(r.rejects_by_reason, '{}')::text as rejects_by_reason
from per_worker p
join paced g using (worker_id)
left join reasons r using (worker_id)
order by p.worker_id
