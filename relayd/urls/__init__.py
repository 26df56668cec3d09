"""What the URLs of stores mean, and what of a URL or a text may be shown."""
