"""How fast the library is beside the raw limits of the same machine; and proofs of what must never happen."""
