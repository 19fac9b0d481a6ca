-- Hours of a span that do not count what the raw shares count.
with raw as (
    select date_bin('1 hour', time, 'epoch') as hour, count(*) as shares
    from shares
    where time >= %(start)s and time < %(end)s
    group by 1
),
rolled as (
    select bucket as hour, sum(shares) as shares
    from shares_hourly
    where bucket >= %(start)s and bucket < %(end)s
    group by 1
)
select raw.hour
from raw
left join rolled using (hour)
where raw.shares is distinct from rolled.shares
order by raw.hour
