-- The days that have a chunk for shares; chunks are one day long, from midnight UTC.
select (range_start at time zone 'UTC')::date as day
from timescaledb_information.chunks
where hypertable_name = 'shares'
order by day
