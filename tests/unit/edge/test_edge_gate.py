from __future__ import annotations

import threading
import time

from diptych_edge.engine.shard import Gate
from waiting import until


def test_readers_are_inside_together_and_one_alone_waits_for_them() -> None:
    gate, order = Gate(), []

    def exchange() -> None:
        with gate.alone():
            order.append("alone")

    gate.enter()
    gate.enter()
    thread = threading.Thread(target=exchange)
    thread.start()
    time.sleep(0.05)
    order.append("read")
    gate.leave()
    gate.leave()
    thread.join(60)
    assert order == ["read", "alone"]


def test_a_new_reader_waits_for_one_who_waits_to_be_alone() -> None:
    gate, order = Gate(), []

    def exchange() -> None:
        with gate.alone():
            order.append("alone")

    def read() -> None:
        gate.enter()
        order.append("late reader")
        gate.leave()

    gate.enter()
    threads = [threading.Thread(target=exchange), threading.Thread(target=read)]
    threads[0].start()
    until(lambda: gate._exclusive_waiting)
    threads[1].start()
    time.sleep(0.05)
    gate.leave()
    for thread in threads:
        thread.join(60)
    assert order == ["alone", "late reader"]


def test_a_reader_may_enter_again_while_somebody_waits_to_be_alone() -> None:
    first, second, done = Gate(), Gate(), threading.Event()

    def exchange(gate: Gate) -> None:
        with gate.alone():
            pass

    def read() -> None:
        first.enter()
        threads = [threading.Thread(target=exchange, args=(gate,)) for gate in (first, second)]
        second.enter()
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        for gate in (first, second):
            gate.enter()
            gate.leave()
        for gate in (first, second):
            gate.leave()
        for thread in threads:
            thread.join(60)
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(60)
