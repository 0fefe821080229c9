"""Imports a host's existing orders from a table, with a mapping of its columns."""
