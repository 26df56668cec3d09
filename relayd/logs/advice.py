"""The one list of all warnings and errors that relayd logs: what each means, and what to do. Pure.

Beside `events`. docs/log.md is made from it (`make log-page`), and a test finds a warning that is
missing here. The texts are the formats of the events; tracebacks ("… failed") are not listed, since
each of them is a fault of relayd itself.
"""

from typing import NamedTuple


class Advice(NamedTuple):
    """A line of the log.

    Attributes:
        words: the format of the event.
        do: what it means, and what an operator can do.
    """

    words: str
    do: str


ADVICE = (
    # stores
    Advice(
        "{store} {state}: {reason}; {remedy}",
        "A store is away or refuses something. The line ends with the remedy; the table of the "
        "states has all of them. When it is over, one line says that the store is back.",
    ),
    Advice(
        "the database's encoding is {encoding}, which cannot hold every character: chat "
        "messages with others are refused",
        "Make a database with the encoding UTF8 (createdb --encoding UTF8 --template template0), "
        "and move the tables there with pg_dump.",
    ),
    Advice(
        "{store} {state} for {seconds:.0f} s now: {reason}",
        "As above: the state still lasts.",
    ),
    Advice(
        "{label} refuses commands: {text}",
        "Redis refused a message for other processes for a reason that is none of the states; "
        "read its words.",
    ),
    Advice(
        "Redis refuses what pairs need: {error}",
        "Another program uses the keys of relayd: choose another `[redis] prefix`.",
    ),
    Advice(
        "no sentinel of {name} answers: {reason}",
        "Start the sentinels, or correct `[redis] url`. The master that is known stays in use.",
    ),
    Advice(
        "this process cannot be registered, will retry: {why}",
        "Another program uses the keys of relayd: choose another `[redis] prefix`.",
    ),
    Advice(
        "{place}: an invalid message from Redis, dropped: {why}{more}",
        "Another program writes to relayd's channels or keys: see docs/install.md for the access "
        "list.",
    ),
    Advice(
        "{free} bytes are free in {folder}, less than [database] min_free = {least}: chat "
        "messages are refused until there is more",
        "Free space on this disk, or move `[database] url`.",
    ),
    Advice(
        "{label}: a thread could not be freed",
        "The database hung while relayd stopped; nothing is to be done.",
    ),
    Advice(
        "the answer to a COMMIT is lost: {count} messages may be kept; relayd asks until that is "
        "known",
        "The database was cut off in the middle of a transaction. A further line says the outcome.",
    ),
    Advice(
        "the schema could not be brought up to date, trying again: {why}",
        "Read the reason; `relayctl db migrate` shows it, too.",
    ),
    Advice(
        "the database was migrated by a newer relayd: {names}; `relayctl db rollback` of that "
        "one takes it back",
        "See [Upgrade, and back](operate.md#upgrade-and-back).",
    ),
    # load and limits
    Advice(
        "overloaded: the loop is {late:.2f} s late; new clients get 503 overloaded",
        "More workers or machines: `[server] workers`. A line says when it is over.",
    ),
    Advice(
        "[limits] max_connections is {wanted}, but the limit of {limit} open files allows "
        "{websockets}: raise LimitNOFILE in the unit, or ulimit -n",
        "Raise `LimitNOFILE=` in the unit, or `ulimit -n`.",
    ),
    Advice(
        "the limit of {limit} open files allows only {websockets} WebSockets: raise LimitNOFILE "
        "in the unit, or ulimit -n",
        "Raise `LimitNOFILE=` in the unit, or `ulimit -n`.",
    ),
    Advice(
        "of {limit} open files none is left for clients: new connections are dropped without an "
        "answer; raise LimitNOFILE in the unit, or ulimit -n",
        "Raise `LimitNOFILE=` in the unit, or `ulimit -n`.",
    ),
    Advice(
        "all {total} seats are taken, and none of them yields: new connections are dropped",
        "Raise `[limits] max_connections`, or start more processes.",
    ),
    Advice(
        "{conn} {path}: closed with 4003: it reads too slowly; the frames that waited for it "
        "were dropped",
        "One client, or its network, is too slow. If it is many of them, see `[limits] "
        "send_buffer`.",
    ),
    Advice(
        "{conn} {path}: closed with 4003: it asked for a history and does not read it",
        "One client is broken, or hostile: `relayctl ban`.",
    ),
    Advice(
        "{count} connections did not close within drain_timeout, so they are dropped",
        "Nothing, or a longer `[server] drain_timeout`.",
    ),
    Advice(
        "{side} of the pair {pair}: more than {most} connections have replaced each other within "
        "{within:.0f} s; two programs seem to use one UUID, and reconnect although 4001 is final",
        "Find the two programs by their addresses (`relayctl clients`), and end one.",
    ),
    # proxies and addresses
    Advice(
        "{host} sends {header}, but is not in [proxy] trusted: its own address is shown for all "
        "clients behind it",
        "Add the proxy to `[proxy] trusted`.",
    ),
    Advice(
        "{host} is not in [proxy] trusted: dropped",
        "Only proxies may connect to this port: add it to `[proxy] trusted`, or "
        "close the port to others.",
    ),
    # access
    Advice(
        "the denials of the other processes cannot be read: {why}",
        "A ban or revocation of another process may not hold here. Mend Redis, or its access list.",
    ),
    Advice(
        "a denial reaches the other processes when Redis is back: {why}",
        "Nothing, once Redis is back.",
    ),
    Advice(
        "the denials cannot be kept for a restart: {why}",
        "Make `[auth] denials_file` and its folder writable.",
    ),
    Advice(
        "{count} invalid denials from Redis, ignored; the last one: {why}",
        "Another program writes to relayd's keys, or the processes have different versions.",
    ),
    Advice(
        "the keys cannot be fetched from {url}, {stay}: {why}",
        "Open the URL from this machine; `[auth] jwks_url`. Tokens that need a newer key are "
        "refused meanwhile.",
    ),
    Advice(
        "the cache of the Django site refuses: {why}",
        "The Redis of the site's sessions: `[django]` in the configuration.",
    ),
    Advice(
        "console: a wrong password from {peer}",
        "An operator has mistyped it, or somebody guesses, which relayd slows down: `relayctl ban` "
        "for an address that goes on.",
    ),
    # Django Channels
    Advice(
        "{group}: not sent to Django: {why}",
        "The message has a number that msgpack cannot hold; clients of relayd got it.",
    ),
    Advice(
        "{group}: too many messages from Django: one was dropped",
        "The site sends faster than the store keeps messages.",
    ),
    Advice(
        "{group}: a message from Django is lost: {why}",
        "The store refused it: see the line of the store.",
    ),
    # configuration and TLS
    Advice(
        "{label}: the new login does not work yet, trying again, with the one before in use: {why}",
        "Give the store the user or password of the new URL (`ALTER ROLE`, `ACL SETUSER`), or "
        "correct the URL and reload again.",
    ),
    Advice(
        "reload: nothing has changed: {why}",
        "Correct the configuration (`relayctl check-config`), and reload again.",
    ),
    Advice(
        "{warning}",
        "A warning about the configuration, in its own words; `relayctl check-config` shows it, "
        "too.",
    ),
    Advice(
        "TLS: {why}; the certificate before stays in use, until {end:%Y-%m-%d}",
        "Put a valid chain and its key in place; relayd looks again by itself.",
    ),
    # workers and control
    Advice(
        "no control socket, so relayctl cannot connect: {why}",
        "Correct `[control] socket`, or the rights of its folder.",
    ),
    Advice(
        "worker {number} did not get {target}: {why}",
        "Send the command again.",
    ),
    Advice(
        "worker {number} ended after {lived:.1f} s: {how}; starts again {when}",
        "The line before says why; `journalctl -u relayd` has its last words. relayd starts "
        "another.",
    ),
    Advice(
        "worker {number} sent no heartbeat for {silent:.0f} s, so it is killed",
        "The line before says why; `journalctl -u relayd` has its last words. relayd starts "
        "another.",
    ),
    Advice(
        "no worker can be started, so relayd ends; the last one: {how}",
        "The lines before say why.",
    ),
    Advice(
        "workers {numbers} did not end within {timeout:g} s, so they are killed",
        "Their clients were cut off; nothing is to be done.",
    ),
    Advice(
        "the parent process has ended, so this one ends, too",
        "The parent was killed; see why in the journal.",
    ),
    Advice(
        "connections stay with the worker that accepts them, which costs CPU time: {why}",
        "relayd works on, with more work between workers; make its temporary folder writable.",
    ),
    Advice(
        "a connection stays: worker {to} {why}",
        "Nothing: the worker is restarting, or busy.",
    ),
    Advice(
        "a connection that was handed over is lost: no descriptor is free",
        "Raise `LimitNOFILE=` in the unit, or `ulimit -n`.",
    ),
    # libraries
    Advice(
        "{library} {version} has no {names} that relayd knows, so {without}; it was tried with "
        "{library} {tried}",
        "Install the version that was tried, or a newer relayd.",
    ),
    Advice(
        "the timers of Twisted {version} go by the wall clock: they stop while it is set back",
        "Install the version of Twisted in requirements.txt.",
    ),
)
"""Every warning and every error."""
