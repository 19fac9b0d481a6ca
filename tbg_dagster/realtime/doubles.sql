-- Rows beyond the first of each. A resent event has the time of the first, so both
-- lie in the same span.
select
    (
        select coalesce(sum(rows - 1), 0)::bigint
        from (
            select count(*) as rows
            from shares
            where time >= %(start)s and time < %(end)s and seq is not null
            group by instance_id, seq
            having count(*) > 1
        ) doubled
    ) as by_seq,
    (
        select coalesce(sum(rows - 1), 0)::bigint
        from (
            select count(*) as rows
            from shares
            where time >= %(start)s and time < %(end)s and is_valid and share_hash is not null
            group by share_hash
            having count(*) > 1
        ) doubled
    ) as by_hash
