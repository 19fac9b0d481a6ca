-- Writes the result of a closed week from its raw valid shares, and nothing where
-- the result is there already.
--
-- A tie within a user goes to the earlier share, and between users as well. Work is
-- summed as numeric: a sum of doubles depends on the order of the rows, and the
-- same week must give the same number every time.
--
-- Shares of hours in which an engine's clock was wrong are left out until a person decides.
with left_out as (
    select hour, instance_id from skewed_hours
    where hour >= %(start)s and hour < %(end)s and decision is distinct from 'keep'
),
per_user as (
    select
        user_id,
        max(share_diff) as best_difficulty,
        count(*) as total_shares,
        sum(difficulty::numeric)::double precision as total_work
    from shares s
    where time >= %(start)s and time < %(end)s and is_valid
      and not exists (
          select from left_out l
          where l.hour = date_trunc('hour', s.time, 'UTC')
            and l.instance_id = coalesce(s.instance_id, 0)
      )
    group by user_id
),
best as (
    select distinct on (s.user_id)
        s.user_id,
        p.best_difficulty,
        s.time as best_share_time,
        s.worker_id as best_worker_id,
        s.share_hash as best_share_hash,
        p.total_shares,
        p.total_work
    from per_user p
    join shares s on s.user_id = p.user_id and s.share_diff = p.best_difficulty
    where s.time >= %(start)s and s.time < %(end)s and s.is_valid
      and not exists (
          select from left_out l
          where l.hour = date_trunc('hour', s.time, 'UTC')
            and l.instance_id = coalesce(s.instance_id, 0)
      )
    order by s.user_id, s.time, s.worker_id, s.share_hash
),
final as (
    select
        *,
        (row_number() over (order by best_difficulty desc, best_share_time, user_id))::integer
            as rank
    from best
),
removed as (
    delete from weekly_best_diff w
    where w.week_start = %(week)s and not exists (select from final f where f.user_id = w.user_id)
    returning 1
),
written as (
    insert into weekly_best_diff as w (
        user_id, week_start, best_difficulty, best_share_time, best_worker_id,
        best_share_hash, total_shares, total_work, finalized_at, rank
    )
    select
        user_id, %(week)s, best_difficulty, best_share_time, best_worker_id,
        best_share_hash, total_shares, total_work, now(), rank
    from final
    on conflict (user_id, week_start) do update set
        best_difficulty = excluded.best_difficulty,
        best_share_time = excluded.best_share_time,
        best_worker_id = excluded.best_worker_id,
        best_share_hash = excluded.best_share_hash,
        total_shares = excluded.total_shares,
        total_work = excluded.total_work,
        finalized_at = excluded.finalized_at,
        rank = excluded.rank
    where w.finalized_at is null
        or (
            w.best_difficulty, w.best_share_time, w.best_worker_id, w.best_share_hash,
            w.total_shares, w.total_work, w.rank
        ) is distinct from (
            excluded.best_difficulty, excluded.best_share_time, excluded.best_worker_id,
            excluded.best_share_hash, excluded.total_shares, excluded.total_work, excluded.rank
        )
    returning 1
)
select
    (select count(*) from final) as users,
    (select coalesce(sum(total_shares), 0)::bigint from final) as shares,
    (select count(*) from written) as written,
    (select count(*) from removed) as removed
