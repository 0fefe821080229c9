"""Publishing: every fact of a store as a CloudEvent, to a broker, at least once and in order."""
