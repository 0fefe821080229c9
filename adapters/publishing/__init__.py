"""Publishing: sends every event of a store to a broker as a CloudEvent, at least once and in order."""
