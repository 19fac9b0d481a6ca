-- Up to where shares_daily shows materialised rows alone; null before the first
-- refresh, when the function answers with the smallest time there is.
select case when isfinite(watermark) and watermark > '1970-01-02' then watermark end as watermark
from (
    select _timescaledb_functions.to_timestamp(
        _timescaledb_functions.cagg_watermark(mat_hypertable_id)
    ) as watermark
    from _timescaledb_catalog.continuous_agg
    where user_view_name = 'shares_daily'
) aggregate
