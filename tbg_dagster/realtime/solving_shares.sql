-- Shares that reached the network's difficulty, and are no block that was reported.
--
-- The difficulty is that of the tips that engines saw around the share, the highest of them. A
-- share that was held to more than the network asks for cannot show it: so it is on a devnet, whose
-- blocks have a difficulty of their own. Nor can a network that nearly every hash solves.
-- Imported share logs come without blocks. All shares of the last while are looked at, and the
-- valid ones of users whose best of these weeks is high enough: an index finds those.
with tips as materialized (
    select seen_at, network_difficulty from network_blocks
    where network_difficulty >= %(least)s
),
lowest as (
    select min(network_difficulty) as difficulty from tips
    where seen_at >= %(first)s::timestamptz - interval '15 days'
),
high as (
    select s.time, s.share_hash, s.share_diff, s.difficulty, s.is_valid, s.user_id, s.instance_id
    from shares s
    where s.time >= %(start)s and s.time < %(end)s
      and s.share_diff >= (select difficulty from lowest)
    union
    select s.time, s.share_hash, s.share_diff, s.difficulty, s.is_valid, s.user_id, s.instance_id
    from weekly_best_diff w
    join shares s on s.user_id = w.user_id
        and s.time >= w.week_start::timestamp at time zone 'UTC'
        and s.time < (w.week_start + 7)::timestamp at time zone 'UTC'
    where w.week_start >= %(week)s
      and w.best_difficulty >= (select difficulty from lowest)
      and s.time >= %(first)s and s.time < %(end)s
      and s.is_valid and s.share_diff >= (select difficulty from lowest)
)
select h.time, encode(h.share_hash, 'hex') as share_hash, h.share_diff, h.is_valid,
    n.difficulty as network_difficulty, coalesce(i.source = 'simulated', false) as simulated
from high h
cross join lateral (
    select greatest(
        (select t.network_difficulty from tips t where t.seen_at <= h.time
            order by t.seen_at desc limit 1),
        (select max(t.network_difficulty) from tips t
            where t.seen_at between h.time - interval '2 minutes' and h.time + interval '2 minutes')
    ) as difficulty
) n
left join engine_instances i on i.id = h.instance_id
where h.share_diff >= n.difficulty and h.difficulty <= n.difficulty
  and not starts_with(coalesce(i.instance, ''), 'sharelog/')
  and not exists (
      select from blocks b
      where b.block_hash = encode(h.share_hash, 'hex')
         or (
             h.share_hash is null and b.user_id = h.user_id
             and b.found_at between h.time - interval '2 minutes' and h.time + interval '2 minutes'
         )
  )
order by h.time
