-- depends: 0011_archive
-- A share no longer touches the rows of its user's week and its worker. What these rows do
-- not hold is in the shares and the hours, and two views add it.

-- Totals come with the result of a closed week; null until then.
alter table weekly_best_diff
    alter total_shares drop not null,
    alter total_shares drop default,
    alter total_work drop not null,
    alter total_work drop default;
update weekly_best_diff set total_shares = null, total_work = null where finalized_at is null;

-- Every user's week with its totals. Of a week that is not finalised they are provisional:
-- the hours that are rolled up, and the raw shares after those. Shares that came late for a
-- rolled-up hour are missing until that hour is computed again.
-- By worker and by user's time, because these are the indexes of shares_hourly and shares.
create view weekly_standings as
select
    w.user_id,
    w.week_start,
    w.best_difficulty,
    w.best_share_time,
    w.best_worker_id,
    w.best_share_hash,
    case when w.finalized_at is null then coalesce(h.shares, 0) + r.shares
        else w.total_shares end as total_shares,
    case when w.finalized_at is null then coalesce(h.work, 0) + coalesce(r.work, 0)
        else w.total_work end as total_work,
    w.rank,
    w.finalized_at,
    w.finalized_at is null as provisional
from weekly_best_diff w
cross join lateral (
    select
        w.week_start::timestamp at time zone 'UTC' as first,
        (w.week_start + 7)::timestamp at time zone 'UTC' as last
) week
left join lateral (
    select
        sum(h.accepted)::bigint as shares,
        sum(h.work::numeric)::double precision as work,
        max(h.last_share) as until
    from workers k
    join shares_hourly h on h.worker_id = k.id and h.bucket >= week.first and h.bucket < week.last
    where k.user_id = w.user_id and w.finalized_at is null
) h on true
left join lateral (
    select count(*) as shares, sum(s.difficulty::numeric)::double precision as work
    from shares s
    where s.user_id = w.user_id and s.is_valid and w.finalized_at is null
      and s.time >= week.first and s.time < week.last
      and s.time > coalesce(h.until, '-infinity')
) r on true;

-- Workers with the time of their last share. The row's own (noted_share) may be up to an
-- hour older; of a worker that is offline it is the last one before it went.
create view workers_seen as
select
    w.id,
    w.user_id,
    w.worker_name,
    w.first_seen,
    greatest(w.last_share, s.time) as last_share,
    w.last_share as noted_share,
    w.current_diff,
    w.hashrate_1m,
    w.hashrate_5m,
    w.hashrate_1h,
    w.hashrate_24h,
    w.is_online,
    w.user_agent,
    w.source
from workers w
left join lateral (
    select s.time
    from shares s
    where s.worker_id = w.id
      and s.time > w.last_share
      and s.time <= w.last_share + interval '61 minutes'
    order by s.time desc
    limit 1
) s on true;
