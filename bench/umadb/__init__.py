"""A trial of another event store: it needs ``pip install eventsourcing-umadb==0.3.5``, which brings a server."""
