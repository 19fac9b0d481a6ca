-- Days of a week whose statistics were not counted from the raw shares as they are now:
-- none yet, or late shares since.
select day::date as day
from generate_series(%(week)s::date, %(week)s::date + 6, interval '1 day') as day
where not exists (select from worker_stats_daily d where d.day = day::date)
   or exists (
       select from late_share_hours l
       where l.hour >= day::date::timestamp at time zone 'UTC'
         and l.hour < (day::date + 1)::timestamp at time zone 'UTC'
         and l.shares > l.settled_daily
   )
order by day
