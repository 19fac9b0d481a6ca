-- Hours whose rollup is not what the raw shares add up to. Work is compared to nine
-- digits: a sum of doubles depends on the order of its terms.
with given as (
    select hour
    from unnest(%(hours)s::timestamptz[]) as hour
    where (
        hour = any (%(computed)s::timestamptz[])
        or exists (select from shares_hourly h where h.bucket = hour)
    )
    and not exists (
        select from late_share_hours l
        where l.hour = hour
          and l.shares > l.settled_hourly
          and l.last_recorded_at > now() - interval '10 minutes'
    )
),
raw as (
    select
        given.hour,
        s.user_id,
        s.worker_id,
        count(*) as shares,
        count(*) filter (where s.is_valid) as accepted,
        count(*) filter (where not s.is_valid) as rejected,
        coalesce(sum(bounded(s.difficulty)) filter (where s.is_valid), 0) as work,
        max(s.share_diff) filter (where s.is_valid) as best_share_diff,
        min(s.time) as first_share,
        max(s.time) as last_share
    from given
    join shares s on s.time >= given.hour and s.time < given.hour + interval '1 hour'
    where s.time >= (select min(hour) from given)
    group by given.hour, s.user_id, s.worker_id
),
rolled as (
    select h.* from shares_hourly h join given on h.bucket = given.hour
)
select coalesce(raw.hour, rolled.bucket) as hour, count(*) as rows
from raw
full join rolled
    on rolled.bucket = raw.hour
    and rolled.user_id = raw.user_id
    and rolled.worker_id = raw.worker_id
where (raw.shares, raw.accepted, raw.rejected, raw.best_share_diff, raw.first_share, raw.last_share)
    is distinct from (
        rolled.shares, rolled.accepted, rolled.rejected, rolled.best_share_diff,
        rolled.first_share, rolled.last_share
    )
    or abs(least(raw.work, 1e290) - least(rolled.work, 1e290)) > 1e-9 * abs(least(raw.work, 1e290))
group by 1
order by 1
