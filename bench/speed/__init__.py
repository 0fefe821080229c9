"""How fast the library is beside the raw limits of the same machine, in the same run."""
