-- Whether the first and the last share that the hours of a day know of are there. Raw shares are
-- dropped by the day, so that one that was dropped lacks them, also when late shares came since.
select not exists (
    select
    from (
        (
            select user_id, worker_id, first_share as time from shares_hourly
            where bucket >= %(start)s and bucket < %(end)s
            order by first_share
            limit 1
        )
        union all
        (
            select user_id, worker_id, last_share from shares_hourly
            where bucket >= %(start)s and bucket < %(end)s
            order by last_share desc
            limit 1
        )
    ) e
    where not exists (
        select from shares s
        where s.worker_id = e.worker_id and s.user_id = e.user_id and s.time = e.time
          and s.time >= %(start)s and s.time < %(end)s
    )
) as whole
