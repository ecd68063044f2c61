"""A time as leader of a group, with one epoch."""

from collections.abc import Callable


class Term:
    """A time as leader, with one epoch. Once it is over it stays over."""

    def __init__(self, epoch: int = 0, lasts: Callable[[], bool] = lambda: True) -> None:
        """`lasts` looks whether we still lead. It is asked for each frame, and must not wait."""
        self.epoch = epoch
        self._lasts, self._is_over = lasts, False

    def lasts(self) -> bool:
        """Whether we may still collect with this epoch."""
        self._is_over = self._is_over or not self._lasts()
        return not self._is_over

    def give_up(self) -> None:
        """End the term."""
        self._is_over = True
