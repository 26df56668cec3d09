"""The load `storm`: 2,000 clients connect in the same moment, as after a restart.

Ten headsets at 10 Hz send to fifty viewers meanwhile, who must not notice. Sits on `bench.rates`.
"""

import math
import time

from bench import procstat
from bench.measured import Measured
from bench.rates import Group, conclude, connect, request
from bench.streams import Streams, Until
from bench.window import Target

GROUPS = [Group(10, 10, viewers=50)]
CLIENTS = 2000
_LONGEST = 60.0  # seconds; who is not in then is not counted
_SETTLE = 0.5  # seconds after the last, for what the server puts off


def storm(target: Target, clients: int = CLIENTS) -> Measured:
    """Connects the clients, ten to a group, and waits until each has an answer.

    `cpu` is what the server used beyond what the poses alone had taken before.
    """
    size = GROUPS[0].senders + GROUPS[0].viewers
    streams = Streams(len(GROUPS), size, clients)
    connect(streams, target, GROUPS)
    result = Measured("storm", connections=clients)
    streams.run(target.warmup)

    cpu, start = procstat.cpu(target.pids), time.monotonic()
    streams.run(target.seconds)
    alone = (procstat.cpu(target.pids) - cpu) / (time.monotonic() - start)

    requests = [request(target.port, f"/ws/camera/storm{n // 10}") for n in range(clients)]
    cpu, own, came = procstat.cpu(target.pids), time.process_time(), streams.came()
    start = time.monotonic()
    streams.window(_LONGEST)
    streams.storm(target.port, requests)
    streams.run(_LONGEST, Until.ANSWERED)
    streams.end_window()
    streams.run(_SETTLE)
    result.seconds = time.monotonic() - start
    result.cpu = procstat.cpu(target.pids) - cpu - alone * result.seconds
    result.generator = (time.process_time() - own) / result.seconds
    result.deliveries = streams.came() - came
    result.late = streams.late
    result.opened = streams.opened
    result.last = streams.last_opened if streams.opened == clients else math.inf

    streams.stop()
    streams.run(target.grace, Until.DELIVERED)
    conclude(result, streams, GROUPS)
    return result
