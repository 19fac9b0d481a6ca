-- depends: 0011_serving
-- A copy of a database is another one: it and the first one both go on, each with rows of its own.

-- Where this database is: the server's files, and which database of theirs. It stays over a failover,
-- and in a copy of all files.
create function database_place() returns text
language plpgsql stable security definer set search_path = pg_catalog as $$
declare
    files text := '';
begin
    begin
        select system_identifier into files from pg_control_system();
    exception when insufficient_privilege then
        null;  -- a host may keep it to itself
    end;
    return files || '/' || (select oid from pg_database where datname = current_database());
end
$$;

alter table database_identity add column place text;
update database_identity set place = database_place();

comment on column database_identity.place is 'where it was when it got this identity (database_place()); elsewhere, it is a copy';

-- The identity of this database. One that was made from a dump, or as a copy beside the first one, has
-- one of its own, always the same.
create function database_id() returns uuid
language sql stable as $$
    select case when place = database_place() then id else md5(id || ' ' || database_place())::uuid end
    from database_identity
$$;
