"""Many processes on one machine: a parent opens the ports, its workers share them."""

VARIABLE = "_RELAYD_WORKER"
"""The environment variable with the number of a worker, from 1."""
