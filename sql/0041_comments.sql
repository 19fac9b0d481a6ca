-- depends: 0033_serving 0040_comments
-- What the views of tbg serve mean.

comment on view served_shares is 'Shares as tbg serve may read them: without the address of the miner.';
comment on column served_shares.time is 'as in shares';
comment on column served_shares.user_id is 'as in shares';
comment on column served_shares.worker_id is 'as in shares';
comment on column served_shares.is_valid is 'as in shares';
comment on column served_shares.share_diff is 'as in shares';
comment on column served_shares.difficulty is 'as in shares, within what can be computed with';
comment on column served_shares.reject_reason is 'as in shares';

comment on view served_connections is 'When workers connected and disconnected, without addresses of miners.';
comment on column served_connections.time is 'time that the engine gave the event';
comment on column served_connections.event is 'miner_connected or miner_disconnected';
comment on column served_connections.btc_address is 'address of the user; text of a stranger';
comment on column served_connections.worker_name is 'name of the worker; text of a stranger';
