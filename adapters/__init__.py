"""Everything that touches the world: the event store, the command line, the wiring."""
