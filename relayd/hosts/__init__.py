"""Hosts and web origins that a request names: their grammar, and which of them are served."""
