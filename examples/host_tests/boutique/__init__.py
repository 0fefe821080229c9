"""A shop that embeds returnable: what its customers see, and how it pays them back."""
