"""From a listening socket to a request head: ports, front door, hand-over between workers."""
