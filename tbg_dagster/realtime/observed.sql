-- What the realtime side has written so far, one column for each number; no query reads
-- more than a minute of shares.
select
    (select count(*) from workers) as workers,
    (select count(*) from workers where is_online) as online,
    (select count(*) from engine_instances) as boots,
    (select count(*) from engine_instances where last_seen > now() - interval '10 minutes')
        as boots_heard,
    (select max(last_seen) from engine_instances) as heard,
    (select count(*) from shares where time > now() - interval '1 minute') as shares_minute,
    (select max(time) from shares) as newest_share,
    (select count(*) from blocks) as blocks,
    (select max(found_at) from blocks) as newest_block,
    (select height from network_blocks order by seen_at desc, height desc limit 1) as height,
    (select max(seen_at) from network_blocks) as newest_tip,
    (select count(*) from dead_letters) as dead_letters,
    (select max(received_at) from dead_letters) as newest_letter
