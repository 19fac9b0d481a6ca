-- The days that have a partition for shares.
select to_date(right(child.relname, 8), 'YYYYMMDD') as day
from pg_inherits
join pg_class child on child.oid = inhrelid
where inhparent = 'shares'::regclass and not inhdetachpending
order by day
