"""`/ws/difficulty/{unity|android}/{uuid}`: a phone's request to the headset under its UUID.

A relay: sits between the WebSocket adapter, the broker's pairs and the draws from the database.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred

from relayd import wire
from relayd.brokers.interface import Pairs
from relayd.close_codes import CloseCode
from relayd.connection.context import Context
from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ClientError, ErrorCode, NoUnity, Refusal, Unavailable, WrongSecret
from relayd.names import Place
from relayd.relays.pair_secret import read_secret
from relayd.relays.paths import KINDS
from relayd.storage.draws import Draw, Draws


class _Request(NamedTuple):
    """A request of a phone.

    Attributes:
        work: a draw in flight, or the reason why there is none.
        tag: what the phone calls it; empty without a tag.
        size: of its frame, in bytes.
    """

    work: Deferred[Draw | None] | Exception
    tag: str
    size: int


class DifficultyProtocol(RelayProtocol):
    """A headset or a phone; the path says which."""

    entry = KINDS["difficulty"]
    factory: "DifficultyFactory"
    uuid = ""
    secret = ""
    side: "_Headset | _Phone | None" = None

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        """Registers a headset, or checks that a phone has one.

        A headset is registered before its handshake is answered, so that a phone may connect as
        soon as the headset's app has announced its UUID.

        Raises:
            Refusal: 400 `no_unity` for a phone without a headset, 400 `bad_secret`, 403
                `wrong_secret`.
            Unavailable: the headset cannot be registered or looked up now.
        """
        self.uuid = place.name
        self.secret = read_secret(self.uuid, params)
        pairs = self.factory.pairs
        self._log.debug("{conn} is of the pair {pair}", pair=f"{self.uuid[:8]}…", **self.facts)
        try:
            if place.side == _Headset.name:
                self.side = headset = _Headset(self)
                await pairs.add_headset(self.uuid, headset, self.secret)
            elif await pairs.headset_present(self.uuid, self.secret):
                self.side = _Phone(self)
            else:
                raise Refusal(ErrorCode.NO_UNITY)
        except WrongSecret:
            raise Refusal(ErrorCode.WRONG_SECRET) from None

    def opened(self) -> None:
        """Registers a phone."""
        assert self.side is not None
        self.side.opened()

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Queues a phone's request; ignores a headset's message."""
        assert self.side is not None
        self.side.received(payload)

    def left(self) -> None:
        """Removes the registration."""
        side, self.side = self.side, None
        if side is not None:
            side.left()

    def bar(self) -> None:
        """Closes the connection, since the pair is bound to another secret."""
        self.close_refused(Refusal(ErrorCode.WRONG_SECRET))

    def encode_error(self, code: ErrorCode, message: str) -> bytes:
        """An error of the connection is no answer: `_Phone` alone answers requests."""
        phone = self._segments[:1] == [_Phone.name]  # one that was refused has no side
        return (wire.encode_notice if phone else wire.encode_error)(code, message)


class _Headset:
    """The Unity side, which receives assignments (`brokers.interface.Headset`)."""

    name, is_headset = "unity", True

    def __init__(self, connection: DifficultyProtocol) -> None:
        self._connection = connection
        self._end: Callable[[], None] | None = None

    def opened(self) -> None:
        if self._end is not None:  # while its handshake was being answered
            self._end()

    def received(self, payload: bytes) -> None:
        pass

    def left(self) -> None:
        self._end = None  # a method of this object, which would hold it
        self._connection.factory.pairs.remove_headset(self._connection.uuid, self)

    def assign(self, payload: bytes) -> bool:
        self._connection.send_payload(payload)
        # false if the connection is not open yet, or if this frame overflowed its outbox
        return self._connection.can_send

    def replaced(self) -> None:
        self._end = self.replaced
        self._connection.close(CloseCode.REPLACED)

    def barred(self) -> None:
        self._end = self.barred
        self._connection.bar()


class _Phone:
    """The Android side, which sends requests and gets one answer to each, in their order.

    A draw begins as soon as its request arrives, so that draws share a database interaction; the
    answers are sent one after the other. Before the phone is registered, nothing is carried out.
    """

    name, is_headset = "android", False

    def __init__(self, connection: DifficultyProtocol) -> None:
        self._connection = connection
        self._requests: deque[_Request] = deque()
        self._registered = False
        self._answering = False
        self._alone = False

    def opened(self) -> None:
        # the pairs report to the phone if the headset left during the phone's handshake
        self._connection.spawn(self._register())

    async def _register(self) -> None:
        connection = self._connection
        try:
            await connection.factory.pairs.add_phone(connection.uuid, self, connection.secret)
        except WrongSecret:  # another headset has come since the phone was admitted
            connection.bar()
            return
        self._registered = True
        await self._answer_all()

    def received(self, payload: bytes) -> None:
        work: Deferred[Draw | None] | Exception
        connection = self._connection
        try:
            request = wire.decode_difficulty(payload)
            if request is None:
                return
            tag = request.tag or ""
            draws = connection.factory.draws
            work = NoUnity() if self._alone else draws.draw(request.difficulty, connection.uuid)
        except Exception as error:  # it is answered when those before are
            work, tag = error, wire.read_tag(payload)
        self._requests.append(_Request(work, tag, len(payload)))
        connection.hold(len(payload))
        if self._registered and not self._answering:
            connection.spawn(self._answer_all())

    async def _answer_all(self) -> None:
        self._answering = True
        try:
            while self._requests:
                request = self._requests.popleft()
                self._connection.send_payload(await self._answer(request))
                self._connection.release(request.size)
        finally:
            self._answering = False

    async def _answer(self, request: _Request) -> bytes:
        """Carries out one request; returns the JSON of the answer to the phone."""
        try:
            await self._carry_out(request)
        except ClientError as error:
            code, sentence = error.code, error.message
        except Unavailable as error:
            code, sentence = error.code, error.sentence
        except Exception:
            self._connection.log_failure("answering a request")
            code, sentence = ErrorCode.INTERNAL, ErrorCode.INTERNAL.sentence
        else:
            return wire.encode_received(request.tag)
        self._connection.told(code)
        return wire.encode_not_received(code, sentence, request.tag)

    async def _carry_out(self, request: _Request) -> None:
        """Returns when the headset has got the frame of a request; raises what it is answered."""
        connection = self._connection
        pair = connection.uuid, connection.secret
        try:
            if not isinstance(request.work, Deferred):
                raise request.work
            draw = await request.work
            if draw is None:
                raise ClientError(ErrorCode.NO_CONTENT)
        except (ClientError, Unavailable):
            # a request that was carried out before is answered as before, whatever changed since
            if request.tag and await connection.factory.pairs.carried_out(*pair, request.tag):
                return
            raise
        if connection.can_send:
            frame = wire.encode(wire.Assignment(draw.quiz_ids, draw.action_id))
            uuid, secret = pair
            await connection.factory.pairs.deliver(uuid, frame, secret, request.tag)

    def left(self) -> None:
        self._connection.factory.pairs.remove_phone(self._connection.uuid, self)
        if not self._registered:
            for request in self._requests:
                if isinstance(request.work, Deferred):
                    request.work.addErrback(lambda _: None)
            self._requests.clear()

    def headset_came(self) -> None:
        self._alone = False
        self._connection.send_payload(wire.UNITY_CONNECTED)

    def headset_left(self) -> None:
        self._alone = True
        self._connection.send_payload(wire.UNITY_DISCONNECTED)

    def replaced(self) -> None:
        self._connection.close(CloseCode.REPLACED)

    def barred(self) -> None:
        self._connection.bar()


class DifficultyFactory(RelayFactory):
    """Builds the connections of `/ws/difficulty`."""

    protocol = DifficultyProtocol

    def __init__(self, context: Context, pairs: Pairs, draws: Draws) -> None:
        super().__init__(context)
        self.pairs = pairs
        self.draws = draws
