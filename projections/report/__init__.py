"""The audit report: its model, and how it is built from the events of a case."""
