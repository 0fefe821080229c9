"""What people read: views computed from the facts, as of any instant."""
