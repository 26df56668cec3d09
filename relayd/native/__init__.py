"""Compiled code (Cython) that runs for every frame and every member.

`reading` imports `calls`, `fanout` and `framing`; `fanout` imports `batching` and `framing`.
"""


def give_way() -> None:
    """Does nothing, in bytecode: whoever has waited 5 ms for Python's lock gets it where it begins.

    (`sys.getswitchinterval`.) A compiled loop that goes on and on calls this now and then. To let
    the lock go for the moment of a system call is no help: the others wake up too late for it, and
    begin to count anew.
    """
