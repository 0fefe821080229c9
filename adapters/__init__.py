"""The code that touches the outside world: event stores, files, brokers, the command line, and the wiring."""
