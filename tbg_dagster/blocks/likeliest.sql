select
    case when o.scope = 'pool' then 'the whole pool'
        else u.btc_address || coalesce('.' || nullif(w.worker_name, ''), '')
    end as who,
    o.hashrate, o.expected_seconds, o.chance_day, o.chance_year
from block_odds o
left join users u on u.id = o.user_id
left join workers w on w.id = o.worker_id
order by o.scope, o.expected_seconds
limit 15
