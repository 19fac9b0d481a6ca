-- Other transactions that hold the lock of an insert on shares, or on a day of it.
select distinct virtualtransaction as transaction
from pg_locks
where locktype = 'relation'
  and mode = 'RowExclusiveLock'
  and granted
  and pid is distinct from pg_backend_pid()
  and database = (select oid from pg_database where datname = current_database())
  and relation in (
      select 'shares'::regclass::oid
      union all
      select inhrelid from pg_inherits where inhparent = 'shares'::regclass
  )
