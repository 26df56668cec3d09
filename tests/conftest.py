"""What all tests share: the fixtures of the helpers, by module."""

pytest_plugins = ["tests.servers", "tests.daemon", "tests.journal"]
