-- As strangers_shares.sql.
update archived_events a
set instance = format('instance %%s of %%s', instance_id, %(origin)s::text)
where instance is null and instance_id is not null
  and not exists (
      select from named_events e
      where e.time = a.time and e.event = a.event and e.instance is null
        and e.instance_id = a.instance_id and e.seq is not distinct from a.seq
  )
