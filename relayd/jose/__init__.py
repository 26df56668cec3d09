"""The keys that tokens are signed and checked with (JOSE: RFC 7515 to 7518)."""
