-- depends: 0033_serving 0030_receipts 0041_comments
-- The log of roots is served too.

-- As in 0033_serving, and the log of roots.
create or replace function grant_serving(role name) returns void
language plpgsql as $$
begin
    execute format('grant usage on schema %I to %I', current_schema(), role);
    execute format(
        'grant select on users, workers, workers_seen, user_bests, weekly_best_diff, '
        'weekly_publications, blocks, block_odds, network_blocks, network_difficulty, '
        'shares_hourly, shares_daily, worker_stats_daily, share_ledger, ledger, share_proofs, '
        'served_shares, served_connections, receipt_roots to %I',
        role
    );
    execute format('grant execute on function served_worker_bests to %I', role);
end
$$;
