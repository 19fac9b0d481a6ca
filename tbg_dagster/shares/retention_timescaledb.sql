select (config ->> 'drop_after')::interval as drop_after
from timescaledb_information.jobs
where proc_name = 'policy_retention' and hypertable_name = 'shares'
