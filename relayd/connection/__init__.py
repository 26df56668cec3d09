"""One WebSocket: its handshake, its life, its end, and who may have one."""
