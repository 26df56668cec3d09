"""Scenarios for every kind of pairs, over a fixture `cluster` of the module that inherits them."""

import itertools

import pytest
import pytest_twisted

from relayd.errors import NoUnity, WrongSecret
from tests.broker_scene import OTHER, UUID, Cluster, FakeHeadset, FakePhone, eventually
from tests.unit.fakes import logged_lines

MINE, ANOTHER = "ab" * 32, "cd" * 32
"""Hashes of secrets."""


class PairsContract:
    @pytest_twisted.ensureDeferred
    async def test_a_headset_is_present_from_its_registration_to_its_removal(
        self, cluster: Cluster
    ) -> None:
        headset = FakeHeadset()
        assert not await cluster.there.pairs.headset_present(UUID)
        await cluster.here.pairs.add_headset(UUID, headset)
        assert await cluster.there.pairs.headset_present(UUID)
        assert not await cluster.there.pairs.headset_present(OTHER)
        cluster.here.pairs.remove_headset(UUID, headset)
        await eventually(lambda: cluster.there.pairs.headset_present(UUID), False)

    @pytest_twisted.ensureDeferred
    async def test_a_frame_is_delivered_to_the_headset_under_the_uuid(
        self, cluster: Cluster
    ) -> None:
        headsets = {uuid: FakeHeadset() for uuid in (UUID, OTHER)}
        for uuid, headset in headsets.items():
            await cluster.here.pairs.add_headset(uuid, headset)
        for number in range(3):
            await cluster.there.pairs.deliver(UUID, b"%d" % number)
        assert await headsets[UUID].inbox.take(0) == [b"0", b"1", b"2"]
        assert await headsets[OTHER].inbox.take(0) == []

    @pytest_twisted.ensureDeferred
    async def test_without_a_headset_a_frame_is_not_delivered(self, cluster: Cluster) -> None:
        headset = FakeHeadset()
        with pytest.raises(NoUnity):
            await cluster.there.pairs.deliver(UUID, b"1")
        await cluster.here.pairs.add_headset(UUID, headset)
        cluster.here.pairs.remove_headset(UUID, headset)
        with pytest.raises(NoUnity):
            await cluster.there.pairs.deliver(UUID, b"1")
        assert await headset.inbox.take(0) == []

    @pytest_twisted.ensureDeferred
    async def test_a_frame_is_not_delivered_to_a_closing_headset(self, cluster: Cluster) -> None:
        headset = FakeHeadset(is_open=False)
        await cluster.here.pairs.add_headset(UUID, headset)
        with pytest.raises(NoUnity):
            await cluster.there.pairs.deliver(UUID, b"1")

    @pytest_twisted.ensureDeferred
    async def test_a_newer_headset_replaces_the_older_one_which_is_notified(
        self, cluster: Cluster
    ) -> None:
        older, newer = FakeHeadset(), FakeHeadset()
        await cluster.here.pairs.add_headset(UUID, older)
        await cluster.there.pairs.add_headset(UUID, newer)
        assert await older.inbox.take(1) == ["replaced"]
        await cluster.here.pairs.deliver(UUID, b"1")
        assert await newer.inbox.take(1) == [b"1"]

    @pytest_twisted.ensureDeferred
    async def test_the_end_of_an_older_headset_leaves_the_newer_one_alone(
        self, cluster: Cluster
    ) -> None:
        older, newer, phone = FakeHeadset(), FakeHeadset(), FakePhone()
        await cluster.here.pairs.add_headset(UUID, older)
        await cluster.here.pairs.add_phone(UUID, phone)
        await cluster.there.pairs.add_headset(UUID, newer)
        await older.inbox.take(1)
        cluster.here.pairs.remove_headset(UUID, older)
        await cluster.here.pairs.deliver(UUID, b"1")
        assert await newer.inbox.take(1) == [b"1"]
        assert await cluster.here.pairs.headset_present(UUID)
        cluster.there.pairs.remove_headset(UUID, newer)
        assert await phone.inbox.take(1) == ["left"], "a replacement is no news to the phone"

    @pytest_twisted.ensureDeferred
    async def test_a_phone_is_notified_whenever_its_headset_connects_or_leaves(
        self, cluster: Cluster
    ) -> None:
        phone = FakePhone()
        headset = FakeHeadset()
        await cluster.here.pairs.add_headset(UUID, headset)
        await cluster.there.pairs.add_phone(UUID, phone)
        for _ in range(2):
            cluster.here.pairs.remove_headset(UUID, headset)
            assert await phone.inbox.take(1) == ["left"]
            headset = FakeHeadset()
            await cluster.here.pairs.add_headset(UUID, headset)
            assert await phone.inbox.take(1) == ["came"]

    @pytest_twisted.ensureDeferred
    async def test_a_phone_is_not_notified_about_other_headsets(self, cluster: Cluster) -> None:
        phone, headset, other = FakePhone(), FakeHeadset(), FakeHeadset()
        await cluster.here.pairs.add_headset(UUID, headset)
        await cluster.there.pairs.add_phone(UUID, phone)
        await cluster.here.pairs.add_headset(OTHER, other)
        cluster.here.pairs.remove_headset(OTHER, other)
        cluster.here.pairs.remove_headset(UUID, headset)
        assert await phone.inbox.take(1) == ["left"]

    @pytest_twisted.ensureDeferred
    async def test_a_newer_phone_replaces_the_older_one_and_alone_is_notified(
        self, cluster: Cluster
    ) -> None:
        headset, older, newer = FakeHeadset(), FakePhone(), FakePhone()
        await cluster.here.pairs.add_headset(UUID, headset)
        await cluster.here.pairs.add_phone(UUID, older)
        await cluster.there.pairs.add_phone(UUID, newer)
        assert await older.inbox.take(1) == ["replaced"]
        cluster.here.pairs.remove_phone(UUID, older)
        cluster.here.pairs.remove_headset(UUID, headset)
        assert await newer.inbox.take(1) == ["left"]
        assert await older.inbox.take(0) == []

    @pytest_twisted.ensureDeferred
    async def test_a_removed_phone_is_not_notified(self, cluster: Cluster) -> None:
        headset, gone, there = FakeHeadset(), FakePhone(), FakePhone()
        await cluster.here.pairs.add_headset(UUID, headset)
        await cluster.here.pairs.add_phone(UUID, gone)
        cluster.here.pairs.remove_phone(UUID, gone)
        await cluster.here.pairs.add_phone(UUID, there)
        cluster.here.pairs.remove_headset(UUID, headset)
        assert await there.inbox.take(1) == ["left"]
        assert await gone.inbox.take(0) == []

    @pytest_twisted.ensureDeferred
    async def test_removing_an_unregistered_side_changes_nothing(self, cluster: Cluster) -> None:
        headset, phone = FakeHeadset(), FakePhone()
        await cluster.here.pairs.add_headset(UUID, headset)
        await cluster.here.pairs.add_phone(UUID, phone)
        for uuid, process in itertools.product((UUID, OTHER), (cluster.here, cluster.there)):
            process.pairs.remove_headset(uuid, FakeHeadset())
            process.pairs.remove_phone(uuid, FakePhone())
        await cluster.there.pairs.deliver(UUID, b"1")
        assert await headset.inbox.take(1) == [b"1"]
        cluster.here.pairs.remove_headset(UUID, headset)
        assert await phone.inbox.take(1) == ["left"]

    @pytest_twisted.ensureDeferred
    async def test_without_the_secret_of_a_pair_nobody_evicts_or_joins_it(
        self, cluster: Cluster
    ) -> None:
        here, there = cluster.here.pairs, cluster.there.pairs
        headset, phone = FakeHeadset(), FakePhone()
        await here.add_headset(UUID, headset, MINE)
        assert await there.headset_present(UUID, MINE)
        await there.add_phone(UUID, phone, MINE)
        for pairs, secret in itertools.product((here, there), ("", ANOTHER)):
            stranger, listener = FakeHeadset(), FakePhone()
            with pytest.raises(WrongSecret):
                await pairs.add_headset(UUID, stranger, secret)
            pairs.remove_headset(UUID, stranger)
            with pytest.raises(WrongSecret):
                await pairs.headset_present(UUID, secret)
            with pytest.raises(WrongSecret):
                await pairs.add_phone(UUID, listener, secret)
            pairs.remove_phone(UUID, listener)
            with pytest.raises(NoUnity):
                await pairs.deliver(UUID, b"0", secret)
            assert await stranger.inbox.take(0) == await listener.inbox.take(0) == []
        await there.deliver(UUID, b"1", MINE)
        assert await headset.inbox.take(1) == [b"1"]
        newer = FakeHeadset()
        await there.add_headset(UUID, newer, MINE)
        assert await headset.inbox.take(1) == ["replaced"]
        there.remove_headset(UUID, newer)
        assert await phone.inbox.take(1) == ["left"]

    @pytest_twisted.ensureDeferred
    async def test_a_pair_keeps_its_secret_while_its_phone_waits_for_the_headset(
        self, cluster: Cluster
    ) -> None:
        headset, phone = FakeHeadset(), FakePhone()
        await cluster.here.pairs.add_headset(UUID, headset, MINE)
        await cluster.here.pairs.add_phone(UUID, phone, MINE)
        cluster.here.pairs.remove_headset(UUID, headset)
        assert await phone.inbox.take(1) == ["left"]
        for pairs, secret in itertools.product(
            (cluster.here.pairs, cluster.there.pairs), ("", ANOTHER)
        ):
            with pytest.raises(WrongSecret):
                await pairs.add_headset(UUID, FakeHeadset(), secret)
            with pytest.raises(WrongSecret):
                await pairs.add_phone(UUID, FakePhone(), secret)
        await cluster.there.pairs.add_headset(UUID, headset, MINE)
        assert await phone.inbox.take(1) == ["came"]
        cluster.there.pairs.remove_headset(UUID, headset)
        assert await phone.inbox.take(1) == ["left"]
        cluster.here.pairs.remove_phone(UUID, phone)

        async def bound_anew() -> bool:
            try:
                await cluster.there.pairs.add_headset(UUID, FakeHeadset(), ANOTHER)
            except WrongSecret:
                return False
            return True

        # with both sides, the secret is gone
        await eventually(bound_anew, True)

    @pytest_twisted.ensureDeferred
    async def test_a_headset_with_a_secret_replaces_one_without_and_bars_its_phone(
        self, cluster: Cluster
    ) -> None:
        squatter, listener, headset = FakeHeadset(), FakePhone(), FakeHeadset()
        await cluster.here.pairs.add_headset(UUID, squatter)
        await cluster.here.pairs.add_phone(UUID, listener)
        with pytest.raises(WrongSecret):
            await cluster.there.pairs.headset_present(UUID, MINE)
        with pytest.raises(WrongSecret):
            await cluster.there.pairs.add_phone(UUID, FakePhone(), MINE)
        await cluster.there.pairs.add_headset(UUID, headset, MINE)
        assert await squatter.inbox.take(1) == ["replaced"]
        assert await listener.inbox.take(1) == ["barred"]
        phone = FakePhone()
        await cluster.here.pairs.add_phone(UUID, phone, MINE)
        await cluster.here.pairs.deliver(UUID, b"1", MINE)
        assert await headset.inbox.take(1) == [b"1"]

    @pytest_twisted.ensureDeferred
    async def test_a_duel_is_logged_once_and_names_a_part_of_the_uuid(
        self, cluster: Cluster
    ) -> None:
        with logged_lines("relayd.brokers") as lines:
            await cluster.here.pairs.add_headset(OTHER, FakeHeadset())
            for number in range(8):
                process = (cluster.here, cluster.there)[number % 2]
                await process.pairs.add_headset(UUID, FakeHeadset())
                assert len(lines) == (number > 3), "the first connection takes nothing over"
        [line] = lines
        assert UUID[:8] in line
        assert UUID not in line

    @pytest_twisted.ensureDeferred
    async def test_a_tag_is_carried_out_once_whoever_asks_and_wherever_the_headset_is(
        self, cluster: Cluster
    ) -> None:
        here, there = cluster.here.pairs, cluster.there.pairs
        headset = FakeHeadset()
        await here.add_headset(UUID, headset)
        assert not await there.carried_out(UUID, "", "a")
        for number in range(2):
            for pairs in (there, here, there):
                await pairs.deliver(UUID, b"%d" % number, "", f'"{number}"')
                assert await pairs.carried_out(UUID, "", f'"{number}"')
        assert await headset.inbox.take(0) == [b"0", b"1"]
        newer = FakeHeadset()
        await there.add_headset(UUID, newer)
        for pairs in (there, here):
            await pairs.deliver(UUID, b"2", "", '"1"')
        there.remove_headset(UUID, newer)
        await eventually(lambda: here.headset_present(UUID), False)
        await here.deliver(UUID, b"2", "", '"0"')
        assert await newer.inbox.take(0) == []
        with pytest.raises(NoUnity):
            await here.deliver(UUID, b"2", "", "b")
        await here.add_headset(UUID, newer)
        await there.deliver(UUID, b"2", "", "b")
        assert await newer.inbox.take(1) == [b"2"]

    @pytest_twisted.ensureDeferred
    async def test_a_tag_of_another_pair_or_secret_is_another_tag(self, cluster: Cluster) -> None:
        headsets = {(UUID, ""): FakeHeadset(), (OTHER, MINE): FakeHeadset()}
        for (uuid, secret), headset in headsets.items():
            await cluster.here.pairs.add_headset(uuid, headset, secret)
            await cluster.there.pairs.deliver(uuid, b"1", secret, "a")
            assert await headset.inbox.take(0) == [b"1"]
        assert not await cluster.here.pairs.carried_out(OTHER, "", "a")
        assert not await cluster.here.pairs.carried_out(UUID, MINE, "a")
