-- Engine boots whose books do not balance: what they emitted is not what is stored,
-- refused or missing.
select instance, sum(emitted)::bigint as emitted,
    sum(committed + dead_lettered + missing)::bigint as accounted
from ledger_hours
group by instance
having sum(emitted) <> sum(committed + dead_lettered + missing)
