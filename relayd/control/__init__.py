"""The operator's way in: HTTP/1.1 with JSON over a unix socket, for `relayctl`.

    address         the path of the socket, for both sides
    listener        opens it, and names the peer
    messages        requests and answers as types
    site            paths and methods, in front of `process` or `parent`
    process         the operations of one process: `connections`, `tail`, `trace`, `rates`
    parent          the operations of the parent: it queries its workers and merges their answers
    reloading       the operation `reload` of both
    worker_metrics  the metrics of all workers, summed by the parent
    socket_client   the client end, for a parent and its workers

Sits under `node` and `workers`, which start and stop it. The paths:

    GET   /status /clients /rooms /pairs /log-level   queries
    GET   /metrics /figures                           for Prometheus; as JSON, to be summed
    GET   /tail?group=chat/lobby /trace?id=c17        lines of JSON, until either side ends them
    POST  /reload                                     reads the configuration again
    POST  /kick /drain /undrain /publish /log-level   commands

Every POST is logged with the user who sent it.
"""
