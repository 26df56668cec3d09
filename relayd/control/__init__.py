"""The operator's way in: HTTP/1.1 with JSON over a unix socket, for `relayctl`.

    address     where the socket is, on either side of it
    listener    opens it; says who asks
    messages    what goes over it
    site        paths and methods, in front of one of
    process     what one process answers, from its connections: `clients`, `tail`, `trace`
    figures     what the metrics show of all workers, kept by the parent
    reloading   what both of them answer to `reload`
    parent      what the parent of workers answers: it asks them through `asking`, and merges

Sits under `node` and `workers`, which start and stop it. The paths:

    GET   /status /clients /rooms /pairs /log-level   what there is
    GET   /metrics /figures                           for Prometheus; as JSON, to be summed
    GET   /tail?group=chat/lobby /trace?id=c17        lines of JSON, until either side has enough
    POST  /reload                                     reads the configuration again
    POST  /kick /drain /undrain /publish /log-level   is logged with who did it
"""
