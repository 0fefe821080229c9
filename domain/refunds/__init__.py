"""Refunds by story: what is owed, how it splits over the tenders, the request and its results."""
