-- depends: 0006_columnstore 0016a_progress
-- Raw shares and events are dropped by housekeeping alone, as on plain PostgreSQL: a policy
-- knows neither of days that were brought back, nor of shares that are not counted yet.
select remove_retention_policy('shares', if_exists => true);
select remove_retention_policy('mining_events', if_exists => true);
