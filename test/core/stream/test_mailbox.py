"""The newest item only, and no thread left waiting."""

import threading
import time

from redepth_ros.core.stream.mailbox import Mailbox


def test_a_newer_item_replaces_an_older_one():
    mailbox = Mailbox()
    assert mailbox.put(1) is False
    assert mailbox.put(2) is True
    assert mailbox.take() == 2
    assert mailbox.put(3) is False


def test_take_waits_for_an_item():
    mailbox, taken = Mailbox(), []
    waiting = threading.Thread(target=lambda: taken.append(mailbox.take()), daemon=True)
    waiting.start()
    waiting.join(timeout=0.05)
    assert waiting.is_alive()
    mailbox.put(7)
    waiting.join(timeout=5)
    assert taken == [7]


def test_closing_wakes_every_waiting_thread():
    mailbox, taken = Mailbox(), []
    threads = [threading.Thread(target=lambda: taken.append(mailbox.take()), daemon=True) for _ in range(2)]
    for one in threads:
        one.start()
    threads[0].join(timeout=0.02)
    mailbox.close()
    for one in threads:
        one.join(timeout=5)
        assert not one.is_alive()
    assert taken == [None, None]


def test_a_closed_mailbox_hands_out_nothing():
    mailbox = Mailbox()
    mailbox.put(1)
    mailbox.close()
    assert mailbox.take() is None
    mailbox.put(2)
    assert mailbox.take() is None


def test_items_pass_between_threads_in_order():
    mailbox, taken = Mailbox(), []

    def collect():
        while (item := mailbox.take()) is not None:
            taken.append(item)

    collector = threading.Thread(target=collect, daemon=True)
    collector.start()
    for item in range(1, 2000):
        mailbox.put(item)
    end = time.monotonic() + 10
    while not taken or taken[-1] != 1999:
        assert time.monotonic() < end
        time.sleep(0.001)
    mailbox.close()
    collector.join(timeout=5)
    assert not collector.is_alive()
    assert taken == sorted(taken)
