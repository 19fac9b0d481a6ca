-- The partitions of a day.
select child.relnamespace::regnamespace::text as schema, child.relname as name
from pg_inherits
join pg_class child on child.oid = inhrelid
where inhparent in ('shares'::regclass, 'mining_events'::regclass)
  and right(child.relname, 8) = to_char(%(start)s::timestamptz at time zone 'UTC', 'YYYYMMDD')
order by child.relname
