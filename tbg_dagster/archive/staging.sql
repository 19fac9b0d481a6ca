-- What a revision of the archive holds, on its way into the database: columns in the order of
-- parquet.py. written: the revision that is being made.
create temp table archived_shares (
    time timestamptz, btc_address text, worker_name text, instance text, seq bigint,
    difficulty double precision, share_diff double precision, is_valid boolean,
    reject_reason text, is_block boolean, job_id text, nonce bytea, nonce2 bytea,
    share_hash bytea, ip_address inet, source text, user_id integer, worker_id integer,
    instance_id integer
) on commit drop;
create temp table written_shares (like archived_shares) on commit drop;
create temp table archived_events (
    time timestamptz, event text, instance text, seq bigint, source text, payload jsonb,
    instance_id integer
) on commit drop;
create temp table written_events (like archived_events) on commit drop;
-- Rows that the archive has and the database lacks, with the archive's names and numbers.
create temp table missing_shares (like archived_shares) on commit drop;
create temp table missing_events (like archived_events) on commit drop;
-- The database's rows with their names. A number counts where there is no name: a worker of
-- another user has none here, and its number is all that is true of it.
create or replace temp view named_shares as
select
    s.time, u.btc_address, w.worker_name, i.instance, s.seq, s.difficulty, s.share_diff,
    s.is_valid, s.reject_reason, s.is_block, s.job_id, s.nonce, s.nonce2, s.share_hash,
    s.ip_address, s.source, s.user_id, s.worker_id, s.instance_id
from shares s
left join users u on u.id = s.user_id
left join workers w on w.id = s.worker_id and w.user_id = s.user_id
left join engine_instances i on i.id = s.instance_id;
create or replace temp view named_events as
select e.time, e.event, i.instance, e.seq, e.source, e.payload, e.instance_id
from mining_events e
left join engine_instances i on i.id = e.instance_id
