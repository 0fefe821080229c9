"""Reports as pages and as plain text."""
