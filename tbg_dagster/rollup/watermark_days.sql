-- As watermark_hours.sql, for shares_daily, whose source are the hours, which are
-- never dropped.
with hours as (
    select date_trunc('day', min(bucket), 'UTC') as oldest from shares_hourly
),
aggregate as (
    select _timescaledb_functions.to_timestamp(
        _timescaledb_functions.cagg_watermark(mat_hypertable_id)
    ) as watermark
    from _timescaledb_catalog.continuous_agg
    where user_view_name = 'shares_daily'
)
select
    case when isfinite(watermark) and watermark > '1970-01-02' then watermark end as watermark,
    oldest
from aggregate cross join hours
