"""`relayctl publish`: through Redis to all processes, else through one, by its socket or HTTP.

Sits under `ctl.main`.
"""

import http.client
import os
import secrets
import time
from typing import Any
from urllib.parse import quote, urlsplit

import click
import msgspec

from relayd import wire
from relayd.brokers.over_redis.brokers import RedisBrokers
from relayd.config import Config
from relayd.control.messages import Publish
from relayd.ctl import service
from relayd.ctl.bench.target import listening_url
from relayd.ctl.common import counted, echo_json, expected, json_option, load
from relayd.ctl.control_client import ControlClient, UnixConnection, Unreachable
from relayd.ctl.redis import run_with_redis
from relayd.drops import Drops
from relayd.errors import ClientError, ConfigError, OutcomeUnknown, Refusal, RelaydError
from relayd.hub import Hub
from relayd.names import Kind, split_group
from relayd.native.batching import Batching
from relayd.redis.shards import Redis
from relayd.relays.paths import KINDS

_TIMEOUT = 10.0


class NotPublished(RelaydError):
    """relayd cannot be reached, or refuses; the text is a sentence for the operator."""


@click.command(short_help="Publish to a push topic or a chat room.")
@click.argument("target")
@click.argument("text")
@json_option
@click.pass_context
@expected
def publish(context: click.Context, target: str, text: str, as_json: bool) -> None:
    """Publishes a JSON object to push/TOPIC, or posts TEXT in chat/ROOM.

    Through Redis it reaches the clients of all processes. Without [redis] url, relayctl publishes
    over the control socket of the running relayd; without a socket, over HTTP at the first address
    of [server] listen, with [api] key.
    """
    looked_after = service.find(os.environ)
    # a user who may not read the secrets can still use the control socket
    only = ("control", "limits", "chat") if looked_after and looked_after.hidden else ()
    found, sentence = publish_to(load(context, only).config, target, text)
    if as_json:
        echo_json(found)
    else:
        click.echo(sentence)


def publish_to(config: Config, target: str, text: str) -> tuple[dict[str, Any], str]:
    """Publishes to a push topic, or posts a message in a chat room.

    Args:
        config: has the URL of Redis, or the addresses of relayd and its key.
        target: push/TOPIC or chat/ROOM.
        text: one JSON object for push, any text for chat.

    Returns:
        The number of receivers, or the posted message: as members for JSON, and as a sentence.

    Raises:
        ConfigError: the target or the text is wrong, or the configuration lacks a setting.
        RedisUnavailable: Redis cannot be reached; nothing was published.
        StoreUnavailable: the message is not kept.
        OutcomeUnknown: the message may be kept; it was sent twice, with one tag.
        NotPublished: relayd cannot be reached over HTTP, or refuses.
    """
    kind = KINDS.of_group(target)
    if kind is None or not kind.published:
        raise ConfigError(f"{target}: publish to {KINDS.publishing}")
    try:
        payload = text.encode()
        name = kind.parse(split_group(target)[1])
        if not kind.keeps_history:
            wire.check_object(payload)
    except UnicodeEncodeError:
        raise ConfigError("the text is not UTF-8") from None
    except Refusal as error:
        raise ConfigError(f"{target}: {error.message}") from error
    except ClientError as error:
        raise ConfigError(f"{target}: the text must be one JSON object in UTF-8") from error
    if len(payload) > config.limits.max_message_size:
        raise ConfigError(
            f"the text has {len(payload)} bytes; [limits] max_message_size is "
            f"{config.limits.max_message_size}"
        )
    if not config.redis.url:
        return _publish_to_one(config, kind, name, text)
    if kind.keeps_history:
        return _post_to_room(config, kind, name, text)
    return _push(config, kind.group(name), payload)


def _push(config: Config, group: str, payload: bytes) -> tuple[dict[str, Any], str]:
    async def push(redis: Redis, reactor: Any) -> int:
        channel = f"{config.redis.prefix}:{group}"
        return int(await redis.find(group).call("PUBLISH", channel, payload))

    count = run_with_redis(config, group, push)
    receivers = counted(count, "process", "processes")
    return {"processes": count}, f"{receivers} with clients of {group} got it"


def _post_to_room(config: Config, kind: Kind, room: str, text: str) -> tuple[dict[str, Any], str]:
    async def post(redis: Redis, reactor: Any) -> bytes:
        hub = Hub(Batching(reactor, config.limits.coalesce))
        brokers = RedisBrokers(
            redis, hub, config,
            clock=reactor, now=time.time, process=secrets.token_hex(6), drops=Drops(), kinds=KINDS,
            new_rooms_per_hour=lambda: 0,
        )  # fmt: skip
        message, tag = config.chat.message_prefix + text, secrets.token_hex(8)
        try:
            return (await brokers.rooms.post(room, message, tag=tag)).body
        except OutcomeUnknown:
            back = redis.find(kind.group(room)).when_available()
            await back.addTimeout(config.redis.deadline, reactor).addErrback(lambda _: None)
        return (await brokers.rooms.post(room, message, tag=tag)).body

    return _posted(room, msgspec.json.decode(run_with_redis(config, kind.group(room), post)))


def _posted(room: str, message: dict[str, Any]) -> tuple[dict[str, Any], str]:
    return message, f"posted in {room} as message {message['id']}"


def _publish_to_one(config: Config, kind: Kind, name: str, text: str) -> tuple[dict[str, Any], str]:
    """Publishes through one process: over its control socket, else over HTTP."""
    group = kind.group(name)
    try:
        control = ControlClient(config)
        answer = control.post("/publish", Publish(target=group, text=text), dict)
    except Unreachable as error:
        if not config.api.key:
            raise NotPublished(
                f"{error}; publish can also use Redis, with [redis] url, or HTTP, with [api] key"
            ) from error
        body = wire.encode({"message": text}) if kind.keeps_history else text.encode()
        answer = _post_http(config, f"/api/{quote(group)}", body)
    if kind.keeps_history:
        return _posted(name, answer)
    return answer, f"{counted(answer['clients'], 'client', 'clients')} of {group} got it"


def _post_http(config: Config, path: str, body: bytes) -> Any:
    """Sends a POST to the first address on which relayd listens."""
    description = config.server.listen[0]
    if description.startswith("ssl:"):
        # its certificate is not for the address that is used on this machine
        raise ConfigError(
            f"[server] listen begins with {description}, and publish uses plain HTTP only: set "
            "[redis] url, or put a tcp: or unix: endpoint first"
        )
    url = listening_url(description).replace("ws:", "http:", 1)
    connection: http.client.HTTPConnection
    if url.startswith("unix:"):
        connection = UnixConnection(url.removeprefix("unix:"), _TIMEOUT)
    else:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT)
    headers = {"Authorization": f"Bearer {config.api.key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotPublished(f"{url} cannot be reached: {error}") from error
    finally:
        connection.close()
    try:
        decoded = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise NotPublished(f"{url} is no relayd: it answered {answer.status}") from None
    if answer.status != 200:
        raise NotPublished(f"{url} answered {answer.status}: {decoded.get('message')}")
    return decoded
