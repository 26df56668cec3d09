"""The figures of `/metrics`: read from the parts of a process, summed over workers, as text.

families    one family from plain values
exchange    families on their way between processes; merging; text
collector   the families of one process, read from its parts
registry    the figures of one process, and of one that has no workers
totals      the sum over workers, with the counts of dead ones
lag         how late the reactor is
"""
