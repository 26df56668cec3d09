"""relayd: a WebSocket relay for headsets, phones and browsers."""

__version__ = "0.1.0"
