"""Returns by story: the request, its labels, the way back."""
