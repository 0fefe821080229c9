"""A whole shop in one process, under a virtual clock, in which everything fails."""
