"""Exports events as JSON Lines, CSV, Parquet, or as a scenario that plays."""
