"""What every client kit does, as docs/protocol.md asks of clients, against a spawned relayd."""

import functools

from tests.cable import Cable
from tests.conformance.columns import scenario
from tests.conformance.conftest import RATE, Scene, token
from tests.conformance.kits import EVERY_KIND
from tests.integration.clients import read, read_many, read_rest, say, settle
from tests.integration.waiting import eventually

GREETING = "Grüße aus 東京 🙂"
ANSWERED = {
    "camera": ({"x": 1, "y": 2, "z": 3}, "pose"),
    "chat": ({"message": "hello"}, "sent"),
    "phone": ({"difficulty": 1}, "received"),
}
"""What a client may send, and the event that follows."""
LONG, MANY = "x" * 60_000, 2 * RATE
"""Text and number of the messages that one member may send at once."""
ANSWERS = {"chat": b'"message":"once"', "phone": b'"received"'}


def swallowed(cable: Cable, words: bytes) -> bool:
    """Whether a cable has swallowed these words."""
    return words in b"".join(cable.swallowed)


class Scenarios:
    """One test a scenario; `test_kits.py` runs all of them with every kit."""

    @scenario("connect")
    def test_a_client_of_each_kind_connects_and_is_closed_by_its_program(
        self, scene: Scene
    ) -> None:
        for driver in scene.start_all(*EVERY_KIND).values():
            driver.tell(close=True)
            closed = driver.state("closed")
            assert (closed["again_in"], closed["error"]) == (None, "")
            assert [each["name"] for each in driver.all("state")][-2:] == ["connected", "closed"]

    @scenario("refuse")
    def test_a_refusal_is_final_and_says_why_while_a_phone_waits_for_its_headset(
        self, scene: Scene
    ) -> None:
        kinds = scene.kit.having(EVERY_KIND) * 3
        elsewhere = f"{scene.relay.ws_url}/elsewhere"
        refused = {
            (401, "unauthorized"): scene.start(kinds[0], token="nonsense"),
            (403, "forbidden"): scene.start(kinds[1], token=token(rights=["push/other"])),
            (404, "not_found"): scene.start(kinds[2], url=elsewhere),
        }
        if "phone" in kinds:
            phone = scene.start("phone", scene.fresh_name("phone"))
            waiting = phone.state("waiting", error="no_unity")
            assert waiting["again_in"] is not None
            scene.join("headset", phone.name)
            phone.state("connected")
        for (status, code), driver in refused.items():
            state = driver.state("refused")
            assert (state["status"], state["error"], state["again_in"]) == (status, code, None)
            assert state["message"].endswith(".")

    @scenario("send", *ANSWERED)
    def test_a_client_sends_what_arrives_at_others_and_is_acknowledged(self, scene: Scene) -> None:
        drivers = scene.start_all(*ANSWERED)
        if "camera" in drivers:
            camera = drivers["camera"]
            viewer = scene.join("camera", camera.name)
            pose = {"x": 1.5, "y": -2, "z": None}
            camera.tell(send=pose)
            assert read(viewer) == pose
            camera.until("pose", **pose)
        if "chat" in drivers:
            chat = drivers["chat"]
            member = scene.join("chat", chat.name)
            chat.tell(send={"message": GREETING})
            copy = read(member)
            assert copy["message"] == GREETING
            own = chat.until("message", message=GREETING, id=str(copy["id"]), mine=True)
            assert own["tag"] == copy["tag"] != ""
            chat.until("sent", tag=copy["tag"])
        if "phone" in drivers:
            phone = drivers["phone"]
            phone.tell(send={"difficulty": 1})
            assert set(read(scene.other(phone.name))) == {"quiz_id", "action_id"}
            phone.until("received")
            phone.tell(send={"difficulty": 99})
            assert phone.until("problem", error="no_content")["message"].endswith(".")

    @scenario("receive")
    def test_a_client_gets_each_thing_that_others_send_as_an_event(self, scene: Scene) -> None:
        drivers = scene.start_all(*EVERY_KIND)
        if "camera" in drivers:
            sender = scene.join("camera", drivers["camera"].name)
            for x in (0.25, -3e200):
                say(sender, {"x": x, "y": 2})
                drivers["camera"].until("pose", x=x, y=2, z=None)
        if "chat" in drivers:
            member = scene.join("chat", drivers["chat"].name)
            say(member, {"message": GREETING, "tag": "of-another"})
            drivers["chat"].until("message", message=GREETING, tag="of-another", mine=False)
        if "phone" in drivers:
            phone = drivers["phone"]
            phone.until("headset", here=True)
            scene.other(phone.name).close()
            phone.until("headset", here=False)
            scene.join("headset", phone.name)
            phone.until("headset", here=True)
        if "headset" in drivers:
            other = scene.join("phone", drivers["headset"].name)
            say(other, {"difficulty": 2})
            got = drivers["headset"].until("assignment")
            assert all(isinstance(each, int) for each in [*got["quiz_id"], got["action_id"]])
            assert read(other) == {"status": "received"}
        if "push" in drivers:
            data = {"percent": 40, "error": None, "message": GREETING, "in": [{"a": 1.5}]}
            scene.publish("push", drivers["push"].name, data)
            drivers["push"].until("push", data=data)

    @scenario("replaced", "phone", "headset")
    def test_a_client_that_another_one_replaced_does_not_return(self, scene: Scene) -> None:
        drivers = scene.start_all("phone", "headset")
        for kind, driver in drivers.items():
            scene.join("headset", driver.name)
            taker = scene.join(kind, driver.name)
            state = driver.state("refused", error="replaced")
            assert (state["close_code"], state["again_in"]) == (4001, None)
            settle(taker)
            driver.tell(close=True)
            driver.state("closed")

    @scenario("restart")
    def test_clients_return_after_a_restart_and_a_chat_goes_on_behind_what_it_has(
        self, scene: Scene
    ) -> None:
        drivers = scene.start_all(*EVERY_KIND)
        if "chat" in drivers:
            chat = drivers["chat"]
            scene.publish("chat", chat.name, {"message": "before"})
            chat.until("message", message="before")
        scene.relay.stop()
        for driver in drivers.values():
            lost = driver.state("lost", close_code=1001)
            assert 0 <= lost["again_in"] <= 1
        scene.relay.start()
        if "chat" in drivers:
            scene.publish("chat", chat.name, {"message": "after"})
            chat.until("message", message="after")
            assert [each["message"] for each in chat.all("message")] == ["before", "after"]
            assert chat.all("gap") == []
        for kind, driver in drivers.items():
            if kind == "phone":
                driver.state("waiting", error="no_unity")
                scene.join("headset", driver.name)
            if kind != "chat":  # which has read on by now
                driver.state("connected")

    @scenario("kill")
    def test_clients_return_after_relayd_was_killed_and_send_what_was_said_meanwhile(
        self, scene: Scene
    ) -> None:
        drivers = scene.start_all(*EVERY_KIND)
        scene.relay.kill()
        for driver in drivers.values():
            assert driver.state("lost")["again_in"] is not None
        if "chat" in drivers:
            drivers["chat"].tell(send={"message": "meanwhile"})
        scene.relay.start()
        if "chat" in drivers:
            drivers["chat"].until("message", message="meanwhile", mine=True)
        for kind, driver in drivers.items():
            if kind == "phone":
                scene.join("headset", driver.name)
            if kind != "chat":
                driver.state("connected")

    @scenario("cut network")
    def test_clients_notice_a_network_that_swallows_everything_and_return_when_it_is_back(
        self, scene: Scene
    ) -> None:
        cable = scene.cable()
        drivers = scene.start_all(*EVERY_KIND, url=f"ws://127.0.0.1:{cable.port}")
        cable.be("swallow")
        if "chat" in drivers:
            drivers["chat"].tell(send={"message": "never arrived"})
        for driver in drivers.values():
            driver.state("lost")
        cable.be("through")
        for driver in drivers.values():
            driver.state("connected")
        if "chat" in drivers:
            drivers["chat"].until("message", message="never arrived", mine=True)

    @scenario("token expired", *ANSWERED)
    def test_a_client_whose_token_has_ended_returns_with_a_new_one_or_not_at_all(
        self, scene: Scene
    ) -> None:
        kind = scene.kit.having(ANSWERED)[0]
        last = scene.kit.having(EVERY_KIND)[-1]
        user = scene.fresh_name("user")
        old, new = token(sub=user), token(sub=f"{user}-again")
        renewed, other = scene.start(kind, token=old), scene.start(last, token=old)
        for driver in (renewed, other):
            driver.state("connected")
        renewed.tell(token=new)
        sent, answer = ANSWERED[kind]
        renewed.tell(send=sent)
        renewed.until(answer)  # so it knows the token
        scene.revoke(user)
        state = renewed.state("lost", error="token_revoked")
        assert state["close_code"] == 4005
        renewed.state("connected")
        assert other.state("refused")["again_in"] is None

    @scenario("slow", *ANSWERED)
    def test_a_client_that_is_closed_for_its_rate_returns_more_slowly(self, scene: Scene) -> None:
        kind = scene.kit.having(ANSWERED)[0]
        (driver,) = scene.start_all(kind).values()
        driver.tell(send=ANSWERED[kind][0], times=RATE * 4)
        driver.until("problem", error="rate_limited")
        driver.tell(send=ANSWERED[kind][0], times=RATE * 4)
        state = driver.state("lost", close_code=4004)
        assert state["error"] == "rate_limited"
        driver.state("connected")

    @scenario("too slow", "chat")
    def test_a_chat_that_was_closed_since_its_network_stalled_returns_and_misses_nothing(
        self, scene: Scene
    ) -> None:
        cable = scene.cable()
        chat = scene.start_all("chat", url=f"ws://127.0.0.1:{cable.port}")["chat"]
        members = [scene.join("chat", chat.name) for _ in range(3)]
        closed = scene.relay.log.count("closed with 4003")
        cable.be("stalled")
        for member in members:
            for number in range(MANY):
                say(member, {"message": f"{number} {LONG}"})
        eventually(lambda: scene.relay.log.count("closed with 4003") > closed)
        cable.be("through")
        state = chat.state("lost", close_code=4003)
        assert state["error"] == "too_slow"
        assert state["again_in"] is not None
        said = [each["id"] for each in read_many(members[0], MANY * len(members))]
        chat.until("message", id=str(said[-1]))
        assert [int(each["id"]) for each in chat.all("message")] == said
        assert chat.all("gap") == []

    @scenario("gap", "chat")
    def test_a_chat_whose_history_does_not_reach_back_says_so_and_goes_on(
        self, scene: Scene
    ) -> None:
        room = scene.fresh_name("chat")
        scene.publish("chat", room, {"message": "kept"})
        driver = scene.start("chat", room, since=1)
        driver.until("gap")
        driver.until("message", message="kept")

    @scenario("sending again", "chat", "phone")
    def test_a_client_sends_again_what_was_not_acknowledged_and_it_counts_once(
        self, scene: Scene
    ) -> None:
        cable = scene.cable()
        drivers = scene.start_all("chat", "phone", url=f"ws://127.0.0.1:{cable.port}")
        cable.be("mute")  # what relayd answers is lost
        if "chat" in drivers:
            chat = drivers["chat"]
            member = scene.join("chat", chat.name)
            chat.tell(send={"message": "once"})
            assert read(member)["message"] == "once"
        if "phone" in drivers:
            phone = drivers["phone"]
            phone.tell(send={"difficulty": 1})
            read(scene.other(phone.name))
        for kind in drivers:
            eventually(functools.partial(swallowed, cable, ANSWERS[kind]))
        cable.be("through")  # for the next connection
        if "chat" in drivers:
            chat.state("lost")
            chat.until("message", message="once", mine=True)
            chat.tell(send={"message": "next"})
            chat.until("message", message="next")
            assert [each["message"] for each in read_rest(member)[0]] == ["next"]
            for _ in range(2):
                chat.until("sent")
            assert len(chat.all("sent")) == len(chat.all("message")) == 2
        if "phone" in drivers:
            phone.state("lost")
            phone.until("received")
            assert read_rest(scene.other(phone.name)) == [[]]
