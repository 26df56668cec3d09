"""The condition of Redis and of the database: which states there are, and which one holds."""
