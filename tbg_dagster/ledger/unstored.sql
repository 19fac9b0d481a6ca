-- Engine boots of which numbers are in no table though nobody misses them, or are in one
-- twice: counted from the rows, from a full hour on.
select
    concat_ws(': ', nullif(i.cell, ''), i.instance) as instance,
    emitted,
    greatest(numbers_in(absent) - expired, 0) as absent,
    doubled
from audit_numbers(%(start)s) a
join engine_instances i using (instance)
where numbers_in(absent) > expired or doubled > 0
order by absent desc, doubled desc, i.instance
