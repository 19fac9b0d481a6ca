-- depends: 0016b_partitions 0021c_rollup
-- The days (UTC) that have a place for raw rows. A day without one was dropped; a day that has
-- one and lacks rows has lost them.

create function raw_days()
returns setof date
language sql stable as $$
    select distinct to_date(right(child.relname, 8), 'YYYYMMDD')
    from pg_inherits
    join pg_class child on child.oid = inhrelid
    where inhparent in ('shares'::regclass, 'mining_events'::regclass) and not inhdetachpending
$$;
