-- What a revision of the archive holds, on its way into the database: columns in the order of
-- parquet.py.
create temp table archived_shares (
    time timestamptz, btc_address text, worker_name text, instance text, seq bigint,
    difficulty double precision, share_diff double precision, is_valid boolean,
    reject_reason text, is_block boolean, job_id text, nonce bytea, nonce2 bytea,
    share_hash bytea, ip_address inet, source text, user_id integer, worker_id integer,
    instance_id integer
) on commit drop;
create temp table archived_events (
    time timestamptz, event text, instance text, seq bigint, source text, payload jsonb,
    instance_id integer
) on commit drop;
-- Rows that the archive has and the database lacks.
create temp table missing_shares (like shares) on commit drop;
create temp table missing_events (like mining_events) on commit drop
