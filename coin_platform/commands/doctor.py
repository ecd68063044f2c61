"""`coin doctor`: check what must hold before the platform can work here, and say what to do about the rest."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from coin_platform.commands.arguments import chosen_names
from coin_platform.commands.output import JsonOption, console, print_json
from coin_platform.errors import SettingsError
from coin_platform.foreign import one_line
from coin_platform.settings import load

if TYPE_CHECKING:  # importing kafka-python, boto3 and polars takes seconds, and other commands do not need them
    from coin_platform.doctor.checks import Check, Outcome
    from coin_platform.doctor.machine import ClockSamples

_STYLES = {"fine": "green", "warning": "yellow", "wrong": "red"}


def doctor(
    only: Annotated[list[str] | None, typer.Option("--only", help="only this check; may be repeated")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, packages, disks, ports, clock, Kafka, the lake and the exchanges, and name the remedy of a fault.

    Each check has its own time limit. Nothing is changed, but S3 gets a few probe objects that are removed at once.

    Exit code 0: everything works, warnings aside. Exit code 1: something is wrong.
    """
    from coin_platform.doctor import plan
    from coin_platform.doctor.checks import run_all
    from coin_platform.doctor.machine import ClockSamples

    samples, screen = ClockSamples(), console()
    checks, outcomes = _planned(samples)
    names = chosen_names("--only", only, [*(check.name for check in checks), *(o.name for o in outcomes), plan.CLOCK])
    checks = [check for check in checks if check.name in names]
    counts: dict[str, int] = {}

    def show(outcome: "Outcome") -> None:
        for finding in outcome.findings:
            counts[finding.state] = counts.get(finding.state, 0) + 1
        if as_json:
            print_json(
                {"check": outcome.name, **finding._asdict(), "seconds": round(outcome.seconds, 3)}
                for finding in outcome.findings
            )
            return
        for finding in outcome.findings:
            text = "; ".join(filter(None, (finding.text, finding.remedy)))
            line = Text(f"{finding.state:<8}", style=_STYLES[finding.state]).append(f"{outcome.name:<11}", "bold")
            screen.print(line.append(one_line(text), ""), soft_wrap=True)

    with _quiet(), _progress(screen, [check.name for check in checks], is_shown=not as_json) as done:
        for outcome in [outcome for outcome in outcomes if outcome.name in names]:
            show(outcome)
        for outcome in run_all(checks):
            done(outcome.name)
            show(outcome)
        if plan.CLOCK in names:
            show(plan.clock(samples))
    if not as_json:
        parts = [f"{number} {state}" for state, number in sorted(counts.items())]
        screen.print(f"{len(checks) + len(outcomes) + (plan.CLOCK in names)} checks: {', '.join(parts)}")
    if counts.get("wrong"):
        raise typer.Exit(1)


def _planned(samples: "ClockSamples") -> "tuple[list[Check], list[Outcome]]":
    """Return the checks to run. With settings that cannot be read, return the finding, and what needs no settings."""
    from coin_platform.doctor import plan
    from coin_platform.doctor.checks import Diagnosis, Outcome, State

    try:
        return plan.checks(load(), samples), []
    except SettingsError as error:
        return plan.of_the_machine(), [Outcome("settings", [Diagnosis(State.WRONG, str(error))], 0.0)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the log: each failed attempt is in the finding."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _progress(screen: Console, names: list[str], *, is_shown: bool) -> Iterator[Callable[[str], None]]:
    """Show on a terminal which checks still run. Yield the function to call with the name of one that has ended."""
    if not (is_shown and screen.is_terminal):
        yield lambda name: None
        return
    waiting = dict.fromkeys(names)
    with screen.status(f"checking {', '.join(waiting)}") as status:

        def done(name: str) -> None:
            waiting.pop(name, None)
            status.update(f"checking {', '.join(waiting)}")

        yield done
