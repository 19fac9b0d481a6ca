-- The partitions of a day, those that were detached and not dropped included.
select
    relnamespace::regnamespace::text as schema,
    relname as name,
    left(relname, -10) as parent
from pg_class
where relnamespace = (select relnamespace from pg_class where oid = 'shares'::regclass)
  and relkind = 'r'
  and relname ~ '^(shares|mining_events)_p[0-9]{8}$'
  and right(relname, 8) = to_char(%(start)s::timestamptz at time zone 'UTC', 'YYYYMMDD')
order by relname
