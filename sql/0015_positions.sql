-- depends: 0012_standings
-- Where the writer is in the streams, by content: an id alone is no identity, because a Redis
-- that lost its last moments gives ids again, and another Redis has other entries.

alter table stream_offsets
    add column redis text,  -- whose positions these are: the value of its key mining:identity
    add column entry text,  -- the entry at last_id: its id and a digest of its content
    add column unmarked bigint not null default 0;  -- entries committed since the newest mark

-- Entries that were committed, some of them: the way back where Redis lost the entry of an
-- offset, and how much of a stream is committed. Rows stay for an hour after their entries
-- were trimmed, those of another Redis for thirty days.
create table stream_marks (
    redis        text not null,
    stream       text not null,
    last_id      text not null,
    entry        text not null,
    entries      bigint not null,  -- committed since the mark before; 0 if Redis lost them
    unnumbered   bytea not null,   -- digests, 16 bytes each, of those that name no number
    committed_at timestamptz not null default now(),
    primary key (redis, stream, last_id)
);

-- Which reports of each receiver's process were counted: they come in order.
create table report_processes (
    process   text primary key,
    reports   bigint not null,
    last_seen timestamptz not null default now()
);
