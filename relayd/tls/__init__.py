"""TLS that ends in relayd: the files of a certificate, what a handshake uses, `ssl:` endpoints."""
