"""Projections: the answers that people read, computed from events as of any instant."""
