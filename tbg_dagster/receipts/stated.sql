-- What is known of numbers without a row: refused and dropped ones. What an earlier revision said
-- of them holds, as dead letters expire.
with span as (
    select int8multirange(int8range(%(low)s, %(high)s + 1)) as numbers
),
letters as (
    select coalesce(range_agg(int8range(seq, seq, '[]')), '{}') as numbers
    from dead_letters
    where instance = %(instance)s and seq >= %(low)s and seq <= %(high)s
),
drops as (
    select coalesce(range_agg(numbers), '{}') as numbers
    from ledger_drops
    where instance_id = %(instance_id)s
),
before as (
    select
        coalesce(range_agg(refused), '{}') as refused,
        coalesce(range_agg(dropped), '{}') as dropped
    from receipt_trees
    where hour = %(hour)s and instance_id = %(instance_id)s
)
select
    s.numbers * (l.numbers + b.refused) as refused,
    s.numbers * (d.numbers + b.dropped) - l.numbers - b.refused as dropped
from span s, letters l, drops d, before b
