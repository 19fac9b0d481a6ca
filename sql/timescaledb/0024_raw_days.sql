-- depends: 0016c_retention 0021b_bounded
-- The days (UTC) that have a place for raw rows. A day without one was dropped; a day that has
-- one and lacks rows has lost them.

create function raw_days()
returns setof date
language sql stable as $$
    select distinct (range_start at time zone 'UTC')::date
    from timescaledb_information.chunks
    where hypertable_name in ('shares', 'mining_events')
$$;
