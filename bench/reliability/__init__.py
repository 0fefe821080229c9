"""Crash tests that take their time; ``tests/reliability`` runs short versions of them."""
