"""The brokers of many processes: groups, rooms and pairs over Redis."""
