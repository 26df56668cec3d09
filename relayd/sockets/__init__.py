"""Bytes in and bytes out of every connection."""
