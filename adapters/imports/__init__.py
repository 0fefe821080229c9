"""Imports: a host's existing orders, from a table and a mapping of its columns."""
