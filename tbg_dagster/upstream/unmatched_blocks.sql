-- Block hashes are hex in blocks and bytes in shares, in the same order.
select
    (
        select count(*)
        from blocks b
        where b.found_at >= %(start)s and b.found_at < %(end)s
          and not exists (
              select from shares s
              where s.is_block
                and s.share_hash = decode(b.block_hash, 'hex')
                and s.time >= b.found_at - interval '1 hour'
                and s.time < b.found_at + interval '1 hour'
          )
    ) as blocks,
    (
        select count(*)
        from shares s
        where s.is_block and s.time >= %(start)s and s.time < %(end)s
          and not exists (
              select from blocks b where b.block_hash = encode(s.share_hash, 'hex')
          )
    ) as shares
