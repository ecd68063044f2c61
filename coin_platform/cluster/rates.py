"""Counts that rise, as rates over the last seconds."""

from collections import defaultdict, deque

RATE_SECONDS = 10.0  # over which a rate is taken: one second alone says little of a quiet market


class Rates:
    """The rates of some counts, by name. Each is looked at about once a second."""

    def __init__(self, seconds: float = RATE_SECONDS) -> None:
        """Take each rate over about so many seconds."""
        self._seconds = seconds
        self._looks: defaultdict[str, deque[tuple[float, float]]] = defaultdict(deque)  # (moment, count), oldest first

    def per_second(self, name: str, count: float, moment: float) -> float:
        """Return by how much a count has risen a second. `moment`: monotonic seconds. The first look returns 0."""
        looks = self._looks[name]
        if looks and count < looks[-1][1]:  # it began anew
            looks.clear()
        looks.append((moment, count))
        while len(looks) > 2 and moment - looks[1][0] >= self._seconds:
            looks.popleft()
        first_moment, first_count = looks[0]
        return (count - first_count) / (moment - first_moment) if moment > first_moment else 0.0
