"""A process that opens an SQLite file and carries out the statements of each line of its stdin, with patience."""

import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
for line in sys.stdin:
    for statement in line.strip().split(";"):
        connection.execute(statement).fetchall()
    print("done", flush=True)
