"""For operators: the health, the metrics and the log of a process."""
