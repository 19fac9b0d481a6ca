-- A day before which there is no hour: where chunks of shares or of their hours begin. Null
-- where there are none.
select date_trunc('day', min(c.range_start), 'UTC') as oldest
from timescaledb_information.chunks c
where c.hypertable_name = 'shares'
   or c.hypertable_name in (
       select materialization_hypertable_name
       from timescaledb_information.continuous_aggregates
       where view_name = 'shares_hourly'
   )
