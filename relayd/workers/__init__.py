"""Many processes on one machine: a parent opens the ports, its workers share them."""

VARIABLE = "_RELAYD_WORKER"
"""Names the variable of the environment in which a worker finds its number, from 1."""
