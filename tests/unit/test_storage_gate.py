"""The gate of the pool's threads: side by side, or one alone."""

import threading

from relayd.storage.gate import Gate


def test_a_thread_is_alone_when_those_inside_have_left_and_others_wait_for_it() -> None:
    gate, order = Gate(), list[str]()
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with gate.shared(), gate.shared():
            inside.set()
            leave.wait(20)
            order.append("work")

    def work_later() -> None:
        with gate.shared():
            order.append("later work")

    threads = [threading.Thread(target=work), threading.Thread(target=work_later)]
    threads[0].start()
    assert inside.wait(20)
    with gate.alone(0.0) as free:
        assert not free
        leave.set()
        threads[1].start()
    with gate.alone(20.0) as free:
        assert free
        order.append("alone")
    for thread in threads:
        thread.join(20)
    assert order[0] == "work"
    assert sorted(order) == ["alone", "later work", "work"]
