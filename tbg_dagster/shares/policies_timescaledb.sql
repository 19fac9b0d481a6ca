select hypertable_name, config ->> 'drop_after' as drop_after
from timescaledb_information.jobs
where proc_name = 'policy_retention' and hypertable_name in ('shares', 'mining_events')
order by hypertable_name
