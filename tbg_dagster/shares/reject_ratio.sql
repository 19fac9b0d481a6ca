-- The reject ratio of an hour, and of the hours of the seven days before.
with hours as (
    select
        bucket,
        sum(rejected)::double precision as rejected,
        sum(shares)::double precision as shares
    from shares_hourly
    where bucket >= %(hour)s - interval '7 days' and bucket < %(end)s
    group by bucket
),
history as (
    select
        count(*) as history_hours,
        sum(rejected) / sum(shares) as usual,
        coalesce(stddev_samp(rejected / shares), 0) as spread
    from hours
    where bucket < %(hour)s
)
select
    h.rejected / h.shares as ratio,
    history.history_hours,
    history.usual,
    history.spread,
    sqrt(history.usual * (1 - history.usual) / h.shares) as chance
from hours h
cross join history
where h.bucket = %(hour)s
