"""Exports: facts written as JSON Lines, CSV, Parquet, or a scenario that plays."""
