-- The writer marks a worker offline at any disconnect. One that has another connection open
-- is online: its engine boot is the newest of that engine, and it did not disconnect for
-- that connection.
with back as materialized (
    select w.id
    from workers w
    join users u on u.id = w.user_id
    where not w.is_online
      and coalesce(w.last_share, w.first_seen) > %(now)s - %(forgotten)s
      -- One marked for its silence stays marked until it sends a share.
      and not exists (
          select from worker_liveness l where l.worker_id = w.id and l.back_since is null
      )
      and exists (
          select from mining_events c
          where c.event = 'miner_connected'
            and c.payload ->> 'user' = u.btc_address
            and c.payload ->> 'worker' = w.worker_name
            and not exists (
                select from mining_events d
                where d.event = 'miner_disconnected'
                  and d.payload ->> 'user' = u.btc_address
                  and d.payload ->> 'worker' = w.worker_name
                  and d.time >= c.time
                  and d.instance_id is not distinct from c.instance_id
                  and d.payload ->> 'client_id' is not distinct from c.payload ->> 'client_id'
            )
            and not exists (
                select
                from engine_instances mine
                join engine_instances newer
                    on split_part(newer.instance, '/', 1) = split_part(mine.instance, '/', 1)
                    and newer.cell = mine.cell
                    and newer.id > mine.id
                where mine.id = c.instance_id
            )
      )
),
free as materialized (  -- as in returns.sql
    select id from workers where id in (select id from back) for no key update skip locked
)
update workers w set is_online = true
from free f
where w.id = f.id and not w.is_online
