"""A shop on Django that embeds the desk."""
