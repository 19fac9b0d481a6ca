-- The days that have a partition for shares or events.
select distinct to_date(right(child.relname, 8), 'YYYYMMDD') as day
from pg_inherits
join pg_class child on child.oid = inhrelid
where inhparent in ('shares'::regclass, 'mining_events'::regclass)
order by day
