-- Whether the hours of a day count what the day's statistics counted from the raw shares,
-- and every late share of the day is in both.
select
    coalesce(
        (
            select sum(shares) from shares_hourly
            where bucket >= %(start)s and bucket < %(end)s
        ) = (
            select sum(accepted + rejected) from worker_stats_daily
            where day = (%(start)s::timestamptz at time zone 'UTC')::date
        ),
        false
    )
    and not exists (
        select from late_share_hours
        where hour >= %(start)s and hour < %(end)s
          and shares > least(settled_hourly, settled_daily)
    ) as proven
