"""Orders by story: the confirmation, the cancellation, the parcels on their way out."""
