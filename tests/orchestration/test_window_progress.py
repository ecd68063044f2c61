"""The progress of a region joins stretches of time, and forgets old ones."""

from coin_platform.model import Window
from coin_platform.orchestration.window_progress import Progress


def test_progress_joins_and_forgets() -> None:
    progress = Progress(0)
    progress.add([Window(10, 20), Window(30, 40), Window(20, 30), Window(60, 70)])
    assert progress.done == [(10, 40), (60, 70)]
    assert progress.missing(10, 85) == [Window(0, 10), Window(40, 50), Window(50, 60), Window(70, 80)]
    assert progress.is_done(Window(20, 30)) and not progress.is_done(Window(50, 60))
    progress.forget(20)
    assert (progress.since, progress.done) == (20, [(20, 40), (60, 70)])
    progress.forget(65)
    assert (progress.since, progress.done) == (65, [(65, 70)])
    progress.forget(0)
    assert progress.since == 65
