-- Miners and engine boots that missing rows name and the database does not know.
with
miners as (
    insert into users (btc_address)
    select distinct btc_address from missing_shares where btc_address is not null
    order by btc_address
    on conflict (btc_address) do nothing
)
insert into engine_instances (instance, source)
select instance, min(source)
from (
    select instance, source from missing_shares
    union all
    select instance, source from missing_events
) named
where instance is not null
group by instance
order by instance
on conflict (instance) do nothing
