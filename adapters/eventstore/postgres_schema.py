"""The tables of a store on PostgreSQL, the function that appends to them, and their migrations.

All of them are in a schema of their own. Only :func:`migrate` creates it and brings it up to date.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from returnable.domain.errors import StoreUnusable

if TYPE_CHECKING:
    from psycopg import Connection

    from returnable.adapters.eventstore.postgres_place import Place

SCHEMA_VERSION = 2

_TABLES = """
CREATE TABLE {schema}.facts (
    position bigint PRIMARY KEY,
    case_id text COLLATE "C" NOT NULL, case_seq integer NOT NULL,
    stream text COLLATE "C" NOT NULL, version integer NOT NULL,
    type text COLLATE "C" NOT NULL, content bytea NOT NULL
);
CREATE UNIQUE INDEX facts_by_case ON {schema}.facts (case_id, case_seq);
CREATE UNIQUE INDEX beginnings ON {schema}.facts (stream) WHERE version = 1;
CREATE SEQUENCE {schema}.positions AS bigint CACHE 1 OWNED BY {schema}.facts.position;
CREATE TABLE {schema}.names (
    kind text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, case_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE TABLE {schema}.commands (
    command_id text COLLATE "C" PRIMARY KEY, digest text NOT NULL, command text NOT NULL, at text NOT NULL,
    outcome text NOT NULL, first bigint NOT NULL, last bigint NOT NULL, judged_on integer NOT NULL DEFAULT 0
);
CREATE TABLE {schema}.refusals (
    case_id text COLLATE "C" NOT NULL, case_seq integer NOT NULL, times bigint NOT NULL, last_at bigint NOT NULL,
    PRIMARY KEY (case_id, case_seq)
);
CREATE TABLE {schema}.policies (sha256 text COLLATE "C" PRIMARY KEY, document text NOT NULL);
"""

# The function takes the writers' lock before it assigns a position, and PostgreSQL releases it after the commit is visible.
# So positions become visible in their order, and a reader that sees one sees every lower one that will ever exist. The lock
# is advisory and belongs to this store alone: a lock on the table would conflict with its autovacuum.
#
# Every statement of a volatile function sees all that was committed before the statement began (in READ COMMITTED, which is
# checked). So the checks after the lock see the last state. Expected refusals are returned, not raised, before anything is
# written: they leave no error in the server's log.
#
# The library numbers some streams from 0. Such a stream is a case that goes on behind -1, hence least(…, 0).
_APPEND = """
CREATE OR REPLACE FUNCTION {schema}.append(
    p_types text[], p_contents bytea[], p_streams text[], p_versions integer[],
    p_cases text[], p_afters integer[], p_sizes integer[], p_tips text[],
    p_kinds text[], p_names text[], p_owners text[], p_command text[], p_policy text, p_patience text,
    OUT first bigint, OUT refusal text, OUT nth integer
) LANGUAGE plpgsql VOLATILE AS $append$
DECLARE
    v_events CONSTANT integer := cardinality(p_types);
    v_named CONSTANT integer := cardinality(p_names);
    v_count integer;
    v_known integer;
    v_stream text;
    v_version integer;
    v_stands_at integer;
    v_event integer := 0;
    v_tip text;
    v_head bigint;
    v_behind boolean := false;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        RAISE EXCEPTION USING ERRCODE = 'RT001', MESSAGE = 'synchronous_commit is off';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'RT001',
            MESSAGE = 'the transaction is not READ COMMITTED but ' || upper(current_setting('transaction_isolation'));
    END IF;
    PERFORM set_config('lock_timeout', p_patience, true);
    PERFORM pg_advisory_xact_lock((1381256770::bigint << 32) | '{schema}.facts'::regclass::oid::bigint);

    IF p_policy IS NOT NULL AND NOT EXISTS (SELECT FROM {schema}.policies p WHERE p.sha256 = p_policy) THEN
        refusal := 'policy';
        RETURN;
    END IF;
    IF p_command IS NOT NULL AND EXISTS (SELECT FROM {schema}.commands c WHERE c.command_id = p_command[1]) THEN
        refusal := 'seen';
        RETURN;
    END IF;
    FOR i IN 1 .. v_named LOOP
        IF EXISTS (SELECT FROM {schema}.names n WHERE n.kind = p_kinds[i] AND n.name = p_names[i]) THEN
            refusal := 'taken';
            nth := i;
            RETURN;
        END IF;
    END LOOP;
    IF cardinality(p_cases) > 8 THEN
        -- The same as below, for many at once: there the time grows with the square of their number.
        SELECT b.i INTO nth FROM (
            SELECT u.i, u.a, u.t, coalesce(
                lag(u.a + u.s) OVER (PARTITION BY u.c ORDER BY u.i),
                (SELECT f.case_seq FROM {schema}.facts f WHERE f.case_id = u.c ORDER BY f.case_seq DESC LIMIT 1),
                least(u.a, 0)
            ) AS stands_at, (
                SELECT {tip} FROM {schema}.facts f WHERE u.t IS NOT NULL AND f.case_id = u.c AND f.case_seq = u.a
            ) AS tip
            FROM unnest(p_cases, p_afters, p_sizes, p_tips) WITH ORDINALITY AS u (c, a, s, t, i)
        ) AS b WHERE b.a <> b.stands_at OR b.t <> b.tip ORDER BY b.i LIMIT 1;
        IF FOUND THEN
            refusal := 'stale';
            RETURN;
        END IF;
    ELSE FOR i IN 1 .. cardinality(p_cases) LOOP
        v_count := NULL;
        FOR j IN REVERSE i - 1 .. 1 LOOP
            IF p_cases[j] = p_cases[i] THEN
                v_count := p_afters[j] + p_sizes[j];
                EXIT;
            END IF;
        END LOOP;
        IF v_count IS NULL THEN
            SELECT f.case_seq, f.stream, f.version, {tip} INTO v_count, v_stream, v_version, v_tip
                FROM {schema}.facts f WHERE f.case_id = p_cases[i] ORDER BY f.case_seq DESC LIMIT 1;
            v_count := coalesce(v_count, least(p_afters[i], 0));
            IF v_tip <> p_tips[i] THEN
                v_count := -1; -- as many events, but others
            END IF;
        END IF;
        IF v_count <> p_afters[i] THEN
            refusal := 'stale';
            nth := i;
            RETURN;
        END IF;
    END LOOP; END IF;

    IF v_events > 0 THEN
        first := nextval('{schema}.positions');
        -- A replica that took over may have the events and not the sequence. No position may come after a higher one.
        SELECT f.position INTO v_head FROM {schema}.facts f ORDER BY f.position DESC LIMIT 1;
        IF v_head >= first THEN
            first := v_head + 1;
            v_behind := true;
        END IF;
        IF v_events > 1 OR v_behind THEN
            PERFORM setval('{schema}.positions', first + v_events - 1);
        END IF;
    END IF;
    IF p_command IS NOT NULL THEN
        INSERT INTO {schema}.commands VALUES (
            p_command[1], p_command[2], p_command[3], p_command[4], p_command[5],
            coalesce(first, 0), coalesce(first + v_events - 1, 0)
        );
    END IF;
    FOR i IN 1 .. v_named LOOP
        INSERT INTO {schema}.names VALUES (p_kinds[i], p_names[i], p_owners[i]) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'RT002', MESSAGE = 'a name is claimed twice at once', DETAIL = i::text;
        END IF;
    END LOOP;
    FOR i IN 1 .. cardinality(p_cases) LOOP
        CONTINUE WHEN p_sizes[i] = 0;
        IF cardinality(p_cases) > 1 THEN
            SELECT f.stream, f.version INTO v_stream, v_version
                FROM {schema}.facts f WHERE f.case_id = p_cases[i] ORDER BY f.case_seq DESC LIMIT 1;
        END IF;
        FOR v_known IN p_afters[i] .. p_afters[i] + p_sizes[i] - 1 LOOP
            v_event := v_event + 1;
            IF p_streams[v_event] = v_stream THEN
                v_stands_at := v_version;
            ELSIF p_versions[v_event] = 1 THEN
                v_stands_at := 0;
            ELSE
                SELECT f.version INTO v_stands_at FROM {schema}.facts f
                    WHERE f.case_id = p_cases[i] AND f.stream = p_streams[v_event]
                    ORDER BY f.case_seq DESC LIMIT 1;
                v_stands_at := coalesce(v_stands_at, least(v_known, 0));
            END IF;
            IF p_versions[v_event] <> v_stands_at + 1 THEN
                RAISE EXCEPTION USING ERRCODE = 'RT003', MESSAGE = 'a stream has a gap',
                    DETAIL = v_event::text, HINT = v_stands_at::text;
            END IF;
            INSERT INTO {schema}.facts VALUES (
                first + v_event - 1, p_cases[i], v_known + 1, p_streams[v_event], p_versions[v_event],
                p_types[v_event], p_contents[v_event]
            );
            v_stream := p_streams[v_event];
            v_version := p_versions[v_event];
        END LOOP;
    END LOOP;
    IF v_events > 0 THEN
        PERFORM pg_notify('{channel}', '');
    END IF;
END
$append$;
"""

# Tip.digest in SQL.
_TIP = "f.position || '-' || left(encode(sha256(f.content), 'hex'), 32)"

_BOOKKEEPING = """
CREATE TABLE {schema}.bookmarks (
    name text COLLATE "C" PRIMARY KEY, position bigint NOT NULL, holder text, held_until bigint
);
CREATE TABLE {schema}.due (case_id text COLLATE "C" PRIMARY KEY, at bigint, claimed_until bigint);
CREATE INDEX due_by_instant ON {schema}.due (at, case_id);
"""

_MIGRATIONS: tuple[str, ...] = (_TABLES + _APPEND, _BOOKKEEPING + _APPEND)
"""The statements that make each version from the one before."""

assert len(_MIGRATIONS) == SCHEMA_VERSION


INDEXES = frozenset(re.findall(r"INDEX (\w+)", "".join(_MIGRATIONS))) | {
    f"{table}_pkey" for table in re.findall(r"TABLE {schema}\.(\w+)", "".join(_MIGRATIONS))
}
"""The indexes of a store: they keep ids and places unique."""


def channel_of(schema: str) -> str:
    """The channel of notices about appends to a store in that schema; a name of any length gives a short channel."""
    return f"returnable_{hashlib.sha256(schema.encode()).hexdigest()[:16]}"


def version_of(connection: Connection[tuple[object, ...]], schema: str) -> int | None:
    """The version of the tables in a schema; ``None`` where there is no store."""
    found = connection.execute("SELECT to_regclass(%s)", (f"{schema}.schema_versions",)).fetchone()
    if found is None or found[0] is None:
        return None
    (version,) = connection.execute(f"SELECT max(version) FROM {schema}.schema_versions".encode()).fetchone() or (None,)
    assert version is None or isinstance(version, int)
    return version


def check_version(place: Place, version: int | None) -> None:
    """Raise :class:`StoreUnusable` unless the tables are of the known version. The error names the command to run."""
    if version is None:
        raise StoreUnusable(
            f"{place}: there is no store in schema {place.schema!r}; create it with: returnable migrate --store {place}"
        )
    if version > SCHEMA_VERSION:
        raise _newer(place, version)
    if version < SCHEMA_VERSION:
        raise StoreUnusable(
            f"{place}: its schema is of version {version}, this one needs {SCHEMA_VERSION}; bring it up to date with:"
            f" returnable migrate --store {place}"
        )


def migrate(connection: Connection[tuple[object, ...]], place: Place) -> tuple[int, int]:
    """Create the tables of a store, or bring them up to date. Returns the version before (0: none) and after.

    Safe to run from many processes at once: one migrates, the others wait and find it done. All or nothing. Raises
    :class:`StoreUnusable` for a schema of a newer version, or of another application.
    """
    schema = place.schema
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 1381256770))", (schema,))
        # CREATE SCHEMA IF NOT EXISTS needs the right to create a schema even where it exists.
        exists = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (schema,)).fetchone() == (True,)
        if not exists:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        found = version_of(connection, schema) if exists else None
        if found is None:
            query = "SELECT count(*) FROM pg_class WHERE relnamespace = %s::regnamespace"
            if exists and connection.execute(query, (schema,)).fetchone() != (0,):
                raise StoreUnusable(
                    f"{place}: schema {schema!r} holds tables of something else; name another with ?schema=NAME"
                )
            connection.execute(
                f"CREATE TABLE {schema}.schema_versions (version integer PRIMARY KEY,"
                " since timestamptz NOT NULL DEFAULT now())".encode()
            )
        before = found or 0
        if before > SCHEMA_VERSION:
            raise _newer(place, before)
        for version, statements in enumerate(_MIGRATIONS[before:], start=before + 1):
            filled = (
                statements.replace("{tip}", _TIP).replace("{schema}", schema).replace("{channel}", channel_of(schema))
            )
            connection.execute(filled.encode())
            connection.execute(f"INSERT INTO {schema}.schema_versions (version) VALUES (%s)".encode(), (version,))
    return before, SCHEMA_VERSION


def _newer(place: Place, version: int) -> StoreUnusable:
    return StoreUnusable(
        f"{place}: it was made by a newer version of returnable (schema {version}, this one knows {SCHEMA_VERSION})"
    )
