-- Days that do not add up to their hours.
with hours as (
    select
        date_bin('1 day', bucket, 'epoch') as day,
        user_id,
        worker_id,
        sum(shares)::bigint as shares,
        sum(accepted)::bigint as accepted,
        sum(rejected)::bigint as rejected,
        sum(least(work, 1e290)) as work,
        max(best_share_diff) as best_share_diff
    from shares_hourly
    where bucket >= %(start)s and bucket < %(end)s
    group by 1, 2, 3
),
days as (
    select * from shares_daily where bucket >= %(start)s and bucket < %(end)s
)
select distinct coalesce(h.day, d.bucket) as day
from hours h
full join days d on d.bucket = h.day and d.user_id = h.user_id and d.worker_id = h.worker_id
where (
    -- A day that was never computed is late, which is another check's concern.
    exists (select from days where days.bucket = coalesce(h.day, d.bucket))
    and (
        (h.shares, h.accepted, h.rejected, h.best_share_diff)
            is distinct from (d.shares, d.accepted, d.rejected, d.best_share_diff)
        or abs(least(h.work, 1e290) - least(d.work, 1e290)) > 1e-9 * abs(least(h.work, 1e290))
    )
)
order by 1
