-- depends: 0010_alerts
-- One route may name several targets. Each takes a message once, or refuses it for good; a
-- target that does not answer has one pause for all messages that wait for it.

alter table alert_deliveries
    add column taken_by   text[] not null default '{}',
    add column refused_by text[] not null default '{}';

create table alert_targets (
    route        text not null,
    target       text not null,  -- a digest: its URL may hold a secret
    label        text not null,  -- what people read, without secrets
    failures     integer not null default 0,  -- since it last took a message
    failing_from timestamptz,
    pause_until  timestamptz,
    permanent    boolean not null default false,  -- the last answer was a refusal for good
    answer       text,
    primary key (route, target)
);
