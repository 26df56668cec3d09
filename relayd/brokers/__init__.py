"""Brokers connect the members of a group across processes: an interface, implementations."""
