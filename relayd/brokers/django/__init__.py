"""Programs that use Django Channels over the same Redis."""
