-- The days that have a partition for shares or events, one that was detached and not dropped
-- included.
select distinct to_date(right(relname, 8), 'YYYYMMDD') as day
from pg_class
where relnamespace = (select relnamespace from pg_class where oid = 'shares'::regclass)
  and relkind = 'r'
  and relname ~ '^(shares|mining_events)_p[0-9]{8}$'
order by day
