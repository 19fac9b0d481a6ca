-- Names for rows of another database that have only its numbers: here these belong to others.
-- A row that this database has under the same number, and without a name too, is its own.
update archived_shares a
set btc_address = coalesce(btc_address, format('user %%s of %%s', user_id, %(origin)s::text)),
    worker_name = coalesce(worker_name, format('worker %%s of %%s', worker_id, %(origin)s::text)),
    instance = case
        when instance is not null or instance_id is null then instance
        else format('instance %%s of %%s', instance_id, %(origin)s::text)
    end
where (btc_address is null or worker_name is null or (instance is null and instance_id is not null))
  and not exists (
      select from named_shares s
      where s.time = a.time
        and (s.user_id, s.worker_id) = (a.user_id, a.worker_id)
        and (s.btc_address, s.worker_name, s.instance, s.instance_id, s.seq, s.share_hash)
            is not distinct from
            (a.btc_address, a.worker_name, a.instance, a.instance_id, a.seq, a.share_hash)
  )
