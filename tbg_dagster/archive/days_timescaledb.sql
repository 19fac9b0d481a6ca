-- The days that have a chunk for shares or events; chunks are one day long.
select distinct (range_start at time zone 'UTC')::date as day
from timescaledb_information.chunks
where hypertable_name in ('shares', 'mining_events')
order by day
