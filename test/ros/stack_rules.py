"""What mapping stacks ask of their inputs, as stand-ins: the stacks themselves are not on PyPI.

Each rule takes messages by their stamps, nanoseconds, and keeps in `taken` what the stack would use.
"""

from collections import deque

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class ExactTime:
    """message_filters' exact synchroniser.

    A set is taken once every topic has the stamp. Beyond the queue the oldest stamp goes, and with a set that
    is taken all older ones go.
    """

    def __init__(self, topics, queue):
        self.taken = []
        self._topics, self._queue, self._waiting = list(topics), queue, {}

    def add(self, topic, stamp, message):
        parts = self._waiting.setdefault(stamp, {})
        parts[topic] = message
        if len(parts) == len(self._topics):
            self.taken.append({topic: parts[topic] for topic in self._topics})
            self._waiting = {one: kept for one, kept in self._waiting.items() if one > stamp}
        while len(self._waiting) > self._queue:
            del self._waiting[min(self._waiting)]


class ApproximateTime:
    """message_filters' approximate synchroniser, as its stacks use it: no bounds, an age penalty of 0.1.

    Of the sets with one message of each topic it takes that of the smallest span, once no later one can be
    better. The pivot is the latest message of the first candidate: every other candidate has it, too.
    """

    PENALTY = 1.1

    def __init__(self, topics, queue):
        self.taken = []
        self._topics, self._size = list(topics), queue
        self._queues = {topic: deque() for topic in topics}
        self._past = {topic: [] for topic in topics}
        """What was before the candidate's successors: it comes back when the candidate is taken or lost."""
        self._dropped = dict.fromkeys(topics, False)
        self._candidate = self._pivot = None

    def add(self, topic, stamp, message):
        queue = self._queues[topic]
        queue.append((stamp, message))
        if len(queue) == 1:
            self._search()
        if len(queue) + len(self._past[topic]) > self._size:
            self._recover()
            self._queues[topic].popleft()
            self._dropped[topic] = True
            if self._pivot is not None:
                self._candidate = self._pivot = None
                self._search()

    def _search(self):
        while all(self._queues.values()):
            heads = {topic: self._queues[topic][0][0] for topic in self._topics}
            first, last = self._bounds(heads)
            for topic in self._topics:
                if topic != last:
                    self._dropped[topic] = False
            if self._pivot is None:
                if self._dropped[last]:  # what was lost may have been the better one
                    self._queues[first].popleft()
                    continue
                self._choose(heads[first], heads[last])
                self._pivot, self._pivot_time = last, heads[last]
            elif self._is_better(heads[first], heads[last]):
                self._choose(heads[first], heads[last])
            self._set_aside(first)
            if first == self._pivot or self._is_best(heads[last]):
                self._take()
            elif not all(self._queues.values()):
                self._look_ahead()

    def _look_ahead(self):
        """Whether no message that may still come makes a better set."""
        moved = dict.fromkeys(self._topics, 0)
        while True:
            times = {
                topic: self._queues[topic][0][0]
                if self._queues[topic]
                else max(self._past[topic][-1][0], self._pivot_time)
                for topic in self._topics
            }
            first, last = self._bounds(times)
            if self._is_best(times[last]):
                self._take()
                return
            if self._is_better(times[first], times[last]):
                for topic, count in moved.items():
                    for _ in range(count):
                        self._queues[topic].appendleft(self._past[topic].pop())
                return
            self._set_aside(first)
            moved[first] += 1

    def _bounds(self, times):
        """The topics of the earliest time, the first of them, and of the latest, the last of them."""
        return min(self._topics, key=times.get), max(reversed(self._topics), key=times.get)

    def _is_better(self, start, end):
        return (end - self._end) * self.PENALTY < start - self._start

    def _is_best(self, end):
        return (end - self._end) * self.PENALTY >= self._pivot_time - self._start

    def _choose(self, start, end):
        self._candidate = {topic: self._queues[topic][0][1] for topic in self._topics}
        self._start, self._end = start, end
        for past in self._past.values():
            past.clear()

    def _set_aside(self, topic):
        self._past[topic].append(self._queues[topic].popleft())

    def _recover(self):
        for topic, past in self._past.items():
            self._queues[topic].extendleft(reversed(past))
            past.clear()

    def _take(self):
        self.taken.append(self._candidate)
        self._candidate = self._pivot = None
        self._recover()
        for queue in self._queues.values():
            queue.popleft()


class NewestOfFrame:
    """nvblox: a frame is used where it is newer than the last of its frame_id, by a period at least."""

    def __init__(self, rate=40.0):
        self.taken = []
        self._period, self._last = SECOND / rate, {}

    def add(self, frame_id, stamp, message):
        if stamp - self._last.get(frame_id, 0) > self._period:
            self._last[frame_id] = stamp
            self.taken.append(message)


class PoseCache:
    """tf2: the poses of the last ten seconds, by their stamps; nothing is known outside of them."""

    def __init__(self, keep=10 * SECOND):
        self._keep, self._oldest, self._newest = keep, None, None

    def add(self, stamp):
        self._newest = stamp
        self._oldest = max(stamp - self._keep, stamp if self._oldest is None else self._oldest)

    def knows(self, stamp):
        return self._oldest is not None and self._oldest <= stamp <= self._newest

    def is_past(self, stamp):
        return self._oldest is not None and stamp < self._oldest


class PoseFilter:
    """tf2_ros' message filter, octomap_server's: five clouds wait for their pose, the oldest goes first."""

    def __init__(self, cache, queue=5):
        self.taken = []
        self._cache, self._waiting = cache, deque(maxlen=queue)

    def add(self, stamp, message):
        self._waiting.append((stamp, message))
        self.look()

    def look(self):
        """Take what has a pose now; what never gets one any more is dropped."""
        for stamp, message in list(self._waiting):
            if self._cache.knows(stamp):
                self.taken.append(message)
            if self._cache.knows(stamp) or self._cache.is_past(stamp):
                self._waiting.remove((stamp, message))
