"""The lane to one Redis: rooms in turn, few scripts under way, every bound."""

from twisted.internet.defer import Deferred

from relayd.brokers.over_redis.lane import MOST_WAITING, Lane

KIB = 1024


class Scene:
    """A lane whose scripts end when the test says so; all unless it says which one."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.carried: list[tuple[str, list[str]]] = []
        self.under_way: dict[str, Deferred[None]] = {}
        self.lane: Lane[str] = Lane(self._carry)

    def add(self, room: str, item: str, size: int = 1, source: str = "") -> bool:
        return self.lane.add(room, item, size, source)

    async def _carry(self, room: str, items: list[str]) -> None:
        self.carried.append((room, items))
        if not self.away:
            assert room not in self.under_way
            await self.under_way.setdefault(room, Deferred())

    def end(self, *rooms: str) -> None:
        for room in rooms or tuple(self.under_way):
            self.under_way.pop(room).callback(None)


def test_a_lone_item_is_sent_at_once_and_what_comes_meanwhile_goes_together() -> None:
    scene = Scene()
    for item in "abc":
        scene.add("room", item)
    scene.end()
    assert scene.carried == [("room", ["a"]), ("room", ["b", "c"])]


def test_the_senders_of_a_room_have_their_turns() -> None:
    scene = Scene()
    for number in range(600):
        scene.add("room", f"flood{number}", source="flooder")
    scene.add("room", "patient", source="another")
    scene.end()
    assert scene.carried[1][1][:3] == ["flood1", "patient", "flood2"]
    assert len(scene.carried[1][1]) == 500


def test_floods_into_many_rooms_leave_the_connection_to_others_and_each_room_its_turn() -> None:
    scene = Scene()
    for number in range(20):
        for _ in range(20):
            scene.add(f"flood{number}", "x" * 10, size=60 * KIB)
    assert len(scene.under_way) == 8
    scene.add("quiet", "hi")
    scene.end()
    sizes = [60 * len(scene.carried[-1 - back][1]) for back in range(len(scene.under_way))]
    assert sum(sizes) <= 2048 + 240
    for _ in range(2):
        scene.end()
    assert ("quiet", ["hi"]) in scene.carried


def test_a_flood_leaves_room_for_other_rooms() -> None:
    scene = Scene()
    kept = sum(scene.add("flood", "x") for _ in range(MOST_WAITING))
    assert kept == MOST_WAITING // 2 + 1 + 1  # half of the queue, and one under way
    assert scene.add("quiet", "hi")


def test_a_server_that_is_away_fails_everything_that_waits_without_a_deep_stack() -> None:
    scene = Scene()
    for number in range(5000):
        scene.add(f"room{number}", "x")
    scene.away = True
    scene.end()
    assert len(scene.carried) == 5000
