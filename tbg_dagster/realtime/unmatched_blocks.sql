-- Block hashes are hex in blocks and bytes in shares, in the same order. Blocks are few: each
-- looks for its share by user and time, which finds it in a compressed chunk as well. Shares
-- are many: solving ones are looked for in the newest days alone, which an index finds.
select
    (
        select count(*)
        from blocks b
        where b.found_at >= %(start)s and b.found_at < %(end)s
          and (
              select true
              from shares s
              where s.is_block
                and s.user_id = b.user_id
                and s.share_hash = decode(b.block_hash, 'hex')
                and s.time >= b.found_at - interval '1 hour'
                and s.time < b.found_at + interval '1 hour'
              limit 1
          ) is null
    ) as blocks,
    (
        select count(*)
        from shares s
        where s.is_block
          and s.time >= greatest(%(start)s, %(end)s::timestamptz - interval '168 hours')
          and s.time < %(end)s
          and not exists (
              select from blocks b where b.block_hash = encode(s.share_hash, 'hex')
          )
    ) as shares
