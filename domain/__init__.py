"""What is true: policy, events, lifecycles, rulings and decisions. No clock, no disk, no network.

Two modules are application service and not domain model: ``handler.py`` (load, decide, append, try again) and ``due.py``
(the cases whose deadlines are to be recorded). They are here because they reach the store only through ``ports.py``, and
because everything that drives the domain, live or in replay, needs them without an adapter.
"""
