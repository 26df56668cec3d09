"""TLS on both sides: the certificates that relayd serves, and those that it verifies."""
