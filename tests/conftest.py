"""Shared by all tests: the fixtures of the helpers, by module, and the profile of Hypothesis."""

import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

# so that a failed assertion of a helper says what it compared
pytest.register_assert_rewrite(
    "tests.contract.pairs",
    "tests.unit.receive_paths",
    "tests.unit.opening_ways",
    "tests.conformance.scenarios",
)

# A shell ignores SIGINT for what it starts in the background, nohup ignores SIGHUP, and children
# inherit both; the tests send these signals to their children and await the default behaviour.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(
            _number,
            signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL,
        )

pytest_plugins = ["tests.servers", "tests.daemon", "tests.journal"]

# Without a deadline and health checks, which fail where the machine is busy, and without the phase
# that explains, since it runs what has failed a hundred times more. In all else the defaults.
settings.register_profile(
    "relayd",
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.load_profile("relayd")
