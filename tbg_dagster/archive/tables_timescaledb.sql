-- The chunks of a day.
select chunk_schema as schema, chunk_name as name, hypertable_name as parent
from timescaledb_information.chunks
where hypertable_name in ('shares', 'mining_events')
  and range_start >= %(start)s and range_end <= %(end)s
order by chunk_name
