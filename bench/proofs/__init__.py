"""Proofs of what must never happen, one command each; ``tests/reliability`` runs short versions of them."""
