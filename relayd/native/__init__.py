"""Compiled code (Cython) that runs for every frame and every member.

`reading` imports `calls` and `inlet`; `inlet` imports `calls`, `fanout`, `framing` and `source`;
`fanout` imports `batching`, `framing`, `sending` and `source`.
"""


def give_way() -> None:
    """Releases Python's lock if another thread has waited 5 ms for it; else does nothing.

    The interpreter checks that at the first bytecode of a function (`sys.getswitchinterval`). A
    compiled loop without an end calls this in each turn. Releasing the lock around a short system
    call does not help: the other threads wake up too late for it, and their 5 ms begin anew.
    """
