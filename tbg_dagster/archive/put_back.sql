with
put_shares as (
    -- As the writer stores them, so that the index over time stays small.
    insert into shares select * from missing_shares order by time returning 1
),
put_events as (
    insert into mining_events select * from missing_events order by time returning 1
)
select
    (select count(*) from put_shares) as shares,
    (select count(*) from put_events) as events
