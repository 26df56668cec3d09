"""The client kits of `clients/`, each as its users run it, against a spawned relayd.

A driver is a small program in the language of the kit (`drivers`), with one client of one kind. It
gets commands, one JSON object a line, and prints what the kit says, likewise (`driver`). `kits` has
one entry for each kit; every one of the `scenarios` runs with every kit.
"""
