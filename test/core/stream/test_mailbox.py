"""The newest item only, and no thread left waiting."""

import threading
import time

from redepth_ros.core.stream.mailbox import Mailbox


def test_a_newer_item_takes_the_place_of_an_older():
    mailbox = Mailbox()
    assert mailbox.put(1) is False
    assert mailbox.put(2) is True
    assert mailbox.take() == 2
    assert mailbox.put(3) is False


def test_closing_wakes_whoever_waits():
    mailbox = Mailbox()
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(mailbox.take()))
    waiting.start()
    mailbox.close()
    waiting.join(timeout=5)
    assert not waiting.is_alive()
    assert taken == [None]


def test_items_cross_between_threads_in_order():
    mailbox, taken = Mailbox(), []

    def collect():
        while (item := mailbox.take()) is not None:
            taken.append(item)

    collector = threading.Thread(target=collect)
    collector.start()
    for item in range(1, 2000):
        mailbox.put(item)
    end = time.monotonic() + 10
    while not taken or taken[-1] != 1999:
        assert time.monotonic() < end
    mailbox.close()
    collector.join(timeout=5)
    assert taken == sorted(taken)
