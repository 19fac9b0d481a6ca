-- watermark: up to where shares_hourly shows materialised hours only; null before
-- the first refresh, when the function answers with the smallest time there is.
-- oldest: the first hour whose raw shares are still there; null where there are none.
with raw as (
    select min(range_start) as oldest
    from timescaledb_information.chunks
    where hypertable_name = 'shares'
),
aggregate as (
    select _timescaledb_functions.to_timestamp(
        _timescaledb_functions.cagg_watermark(mat_hypertable_id)
    ) as watermark
    from _timescaledb_catalog.continuous_agg
    where user_view_name = 'shares_hourly'
)
select
    case when isfinite(watermark) and watermark > '1970-01-02' then watermark end as watermark,
    oldest
from aggregate cross join raw
