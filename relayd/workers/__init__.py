"""Many processes on one machine: a parent opens the ports, its workers share them."""
