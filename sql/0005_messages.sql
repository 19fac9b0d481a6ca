-- depends: 0004_blocks
-- Messages on their way to Redis and to people.

-- Messages of the batch side on their way. A message commits with the change that it reports, and
-- is sent afterwards: neither is there without the other. The key says what the message is about,
-- so that it is written once. The notifier hands every message to the routes that want it, once.
create table outbox (
    id         bigint generated always as identity primary key,
    stream     text not null,
    key        text not null unique,
    event      text not null,
    source     varchar(16) not null default 'hosted',
    payload    jsonb not null,
    created_at timestamptz not null default now(),
    sent_at    timestamptz,
    entry_id   text,
    planned_at timestamptz
);

comment on table outbox is 'Messages that were committed and are on their way: docs/messages.md.';
comment on column outbox.id is 'number of the message; the order of sending';
comment on column outbox.stream is 'stream in Redis, or notify:<name> for the notifier alone';
comment on column outbox.key is 'name that is used once';
comment on column outbox.event is 'the stream''s name without mining:';
comment on column outbox.source is 'hosted, or simulated';
comment on column outbox.payload is 'data of the message';
comment on column outbox.created_at is 'time of the change that it reports';
comment on column outbox.sent_at is 'time at which Redis took it; null before';
comment on column outbox.entry_id is 'id of the entry in Redis';
comment on column outbox.planned_at is 'time at which the notifier planned it; null before';

create index outbox_unsent on outbox (id) where sent_at is null;

create index outbox_unplanned on outbox (id) where planned_at is null;

-- One row for each message and route. A route may name several targets: each takes a message once,
-- or refuses it for good.
create table alert_deliveries (
    message_id bigint not null references outbox on delete cascade,
    route      text not null,
    state      text not null check (state in ('waiting', 'sent', 'dropped', 'failed')),
    reason     text,
    workers    text[] not null default '{}',
    planned_at timestamptz not null,
    due_at     timestamptz not null,
    attempts   integer not null default 0,
    sent_at    timestamptz,
    taken_by   text[] not null default '{}',
    refused_by text[] not null default '{}',
    primary key (message_id, route)
);

comment on table alert_deliveries is 'What becomes of each message on each route.';
comment on column alert_deliveries.message_id is 'number in outbox';
comment on column alert_deliveries.route is 'name of the route';
comment on column alert_deliveries.state is 'waiting, sent, dropped or failed';
comment on column alert_deliveries.reason is 'why it was dropped, or the last answer';
comment on column alert_deliveries.workers is 'workers that the route is about';
comment on column alert_deliveries.planned_at is 'time of the plan';
comment on column alert_deliveries.due_at is 'time from which it may be sent';
comment on column alert_deliveries.attempts is 'tries so far';
comment on column alert_deliveries.sent_at is 'time at which every target had it';
comment on column alert_deliveries.taken_by is 'targets that have taken it';
comment on column alert_deliveries.refused_by is 'targets that refused it for good';

create index alert_deliveries_waiting on alert_deliveries (route, due_at)
where state = 'waiting';

create index alert_deliveries_planned on alert_deliveries (route, planned_at);

-- A target that does not answer has one pause for all messages that wait for it.
create table alert_targets (
    route        text not null,
    target       text not null,
    label        text not null,
    failures     integer not null default 0,
    failing_from timestamptz,
    pause_until  timestamptz,
    permanent    boolean not null default false,
    answer       text,
    primary key (route, target)
);

comment on table alert_targets is 'Targets of routes that take nothing now.';
comment on column alert_targets.route is 'name of the route';
comment on column alert_targets.target is 'digest of the target''s address';
comment on column alert_targets.label is 'name of the target without secrets';
comment on column alert_targets.failures is 'failures since it last took a message';
comment on column alert_targets.failing_from is 'time of the first';
comment on column alert_targets.pause_until is 'time before which it is not asked';
comment on column alert_targets.permanent is 'whether the refusal is for good';
comment on column alert_targets.answer is 'its last answer';

-- Nothing about these workers until then; all_workers: nor about any other of the user.
create table alert_mutes (
    btc_address text not null,
    worker      text not null,
    all_workers boolean not null default false,
    until       timestamptz not null,
    primary key (btc_address, worker, all_workers)
);

comment on table alert_mutes is 'Workers and users about whose silence nothing is sent.';
comment on column alert_mutes.btc_address is 'address of the user';
comment on column alert_mutes.worker is 'name of the worker';
comment on column alert_mutes.all_workers is 'whether all workers of the address are meant';
comment on column alert_mutes.until is 'end of the mute';

-- What was last sent about a subject: 'best:<user id>', 'leader:<week>'.
create table alert_marks (
    subject text primary key,
    value   jsonb not null,
    told_at timestamptz not null
);

comment on table alert_marks is 'What the notifier last saw or sent about a subject.';
comment on column alert_marks.subject is 'the subject';
comment on column alert_marks.value is 'what was seen';
comment on column alert_marks.told_at is 'time of the last message or look';

-- What a check of a sample or of the last while has found wrong, and not seen right since: it
-- looks there again, wherever else it looks.
create table check_faults (
    check_name text not null,
    place      text not null,
    found_at   timestamptz not null default now(),
    primary key (check_name, place)
);

comment on table check_faults is 'Places at which a check failed and that it must look at again.';
comment on column check_faults.check_name is 'name of the check';
comment on column check_faults.place is 'an hour, day, week or other place';
comment on column check_faults.found_at is 'time at which it failed first';
