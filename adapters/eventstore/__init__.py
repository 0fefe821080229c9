"""The event store: cases of facts in an SQLite file, on a PostgreSQL server or in memory, on top of the
``eventsourcing`` library.

``open.py`` turns a URL into a store, ``store.py`` turns facts into rows and back, ``recorder.py`` says what a recorder
must do beyond the library's contract, ``sqlite.py``, ``postgres.py`` and ``memory.py`` do it,
``subscription.py`` follows the log.
"""
