"""One WebSocket: its admission, handshake, life and end."""
