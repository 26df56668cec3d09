"""Storage: the one door to the database, draws, chat history, schema, CSV tables."""
