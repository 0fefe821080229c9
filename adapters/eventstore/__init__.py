"""The event store: the events of cases in an SQLite file, on a PostgreSQL server or in memory.

``open.py`` opens the store at a URL. ``store.py`` turns rows into events, ``sql.py`` holds the queries that both databases
share, and ``sqlite.py``, ``postgres.py`` and ``memory.py`` append. ``library.py`` keeps the recorder contract of the
``eventsourcing`` library. ``follow.py`` follows the log, and ``group_commit.py`` commits appends of many threads together.
"""
