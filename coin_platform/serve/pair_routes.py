"""`/api/pairs`: which pairs are collected. A change is stored by compare-and-swap, then awaited."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Header, Query, Response

from coin_platform.cluster.pairs import ALL_CHANNELS
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Pair
from coin_platform.serve.access import ApiAccess, Caller, Check
from coin_platform.serve.keys import Scope
from coin_platform.serve.pair_changes import PairChanges, Target
from coin_platform.serve.pair_models import AddedPairs, ChangedPairs, ChannelPairs, ExchangePairs, Reloaded, WantedPairs
from coin_platform.serve.parameters import MOST_PAIRS, ExchangePath, PairText
from coin_platform.serve.problems import Problem, answers

Explicit: TypeAlias = Annotated[bool, Query(description="Allow that no pair is left.")]
ETag: TypeAlias = Annotated[
    str | None, Header(alias="If-Match", max_length=40, description='The version that is replaced, as `"3"`, or `*`.')
]
Dropped: TypeAlias = Annotated[list[PairText], Query(alias="pair", min_length=1, max_length=MOST_PAIRS)]


def pair_routes(access: ApiAccess, changes: PairChanges) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/pairs", tags=["pairs"])
    reader, writer = access.needs(Scope.READ), access.needs(Scope.PAIRS)
    away = answers(HTTPStatus.SERVICE_UNAVAILABLE)

    @router.get("", dependencies=[Depends(reader)], responses=away)
    async def list_pairs() -> list[ExchangePairs]:
        """List the active pairs of all exchanges, and how far each has come."""
        return [await changes.shown(exchange) for exchange in EXCHANGES.values()]

    @router.post("/reload", status_code=202, responses=away)
    async def reload_pairs(caller: Annotated[Caller, Depends(writer)]) -> Reloaded:
        """Let all collectors read the pairs again now, and put back what the store has lost."""
        return await changes.reload(caller)

    @router.get("/{exchange}", dependencies=[Depends(reader)], responses=away)
    async def show_pairs(exchange: ExchangePath, answer: Response) -> ExchangePairs:
        """Show the active pairs of an exchange. Header `ETag` has the version for `If-Match`."""
        shown = await changes.shown(EXCHANGES[exchange])
        answer.headers["ETag"] = _tag(shown.version)
        return shown

    @router.get("/{exchange}/{channel}", dependencies=[Depends(reader)], responses=away | answers(HTTPStatus.NOT_FOUND))
    async def show_channel(exchange: ExchangePath, channel: Channel, answer: Response) -> ChannelPairs:
        """Show the active pairs of one channel."""
        shown = await changes.shown(EXCHANGES[exchange])
        answer.headers["ETag"] = _tag(shown.version)
        for found in shown.channels:
            if found.channel is channel:
                return found
        raise Problem(
            HTTPStatus.NOT_FOUND,
            "not-collected",
            f"{channel} of {exchange} is not collected",
            "COIN_CHANNELS lists the collected channels",
        )

    _add_changing_routes(router, "/{exchange}", "pairs", _all_channels, changes, writer)
    _add_changing_routes(router, "/{exchange}/{channel}", "pairs_of_channel", _one_channel, changes, writer)
    return router


def _all_channels(exchange: ExchangePath) -> Target:
    return Target(EXCHANGES[exchange], ALL_CHANNELS)


def _one_channel(exchange: ExchangePath, channel: Channel) -> Target:
    return Target(EXCHANGES[exchange], channel.value)


def _add_changing_routes(
    router: APIRouter, path: str, name: str, find: Callable[..., Target], changes: PairChanges, check: Check
) -> None:
    """Add the methods that change an entry: replace, add and drop."""
    Writer: TypeAlias = Annotated[Caller, Depends(check)]
    Found: TypeAlias = Annotated[Target, Depends(find)]
    errors = answers(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.PRECONDITION_FAILED) | {
        202: {"model": ChangedPairs, "description": "Stored; something is pending."}
    }

    @router.put(path, name=f"replace_{name}", responses=errors | answers(HTTPStatus.PRECONDITION_REQUIRED))
    async def replace(
        target: Found, wanted: WantedPairs, caller: Writer, answer: Response, tag: ETag = None
    ) -> ChangedPairs:
        """Replace the pairs of one channel or, without a channel, of all channels without pairs of their own."""
        if tag is None:
            raise Problem(
                HTTPStatus.PRECONDITION_REQUIRED,
                "no-version",
                "a whole set is replaced only if its version is named",
                "send the `ETag` of GET as `If-Match`, or `If-Match: *` for any version",
            )
        version = _version(tag)
        pairs = [Pair.read(text) for text in wanted.pairs]
        if not wanted.unchecked:
            await changes.check_listed(target.exchange, pairs)
        return _told(
            answer,
            await changes.change(
                target, lambda old: old.replaced(target.channel, pairs, wanted.explicit), caller, version
            ),
        )

    @router.post(path, name=f"add_{name}", responses=errors)
    async def add(target: Found, added: AddedPairs, caller: Writer, answer: Response, tag: ETag = None) -> ChangedPairs:
        """Add pairs to one channel or, without a channel, to all channels without pairs of their own."""
        version = _version(tag)
        pairs = [Pair.read(text) for text in added.pairs]
        if not added.unchecked:
            await changes.check_listed(target.exchange, pairs)
        return _told(
            answer, await changes.change(target, lambda old: old.added(target.channel, pairs), caller, version, pairs)
        )

    @router.delete(path, name=f"drop_{name}", responses=errors)
    async def drop(
        target: Found, pair: Dropped, caller: Writer, answer: Response, explicit: Explicit = False, tag: ETag = None
    ) -> ChangedPairs:
        """Drop pairs from one channel or, without a channel, from all channels."""
        version = _version(tag)
        pairs = [Pair.read(text) for text in pair]
        return _told(
            answer,
            await changes.change(
                target, lambda old: old.dropped(target.channel, pairs, explicit), caller, version, is_drop=True
            ),
        )


def _told(answer: Response, change: tuple[ChangedPairs, bool]) -> ChangedPairs:
    """Return the body of an answer to a change. Its status says whether something is pending."""
    changed, is_pending = change
    answer.status_code = HTTPStatus.ACCEPTED if is_pending else HTTPStatus.OK
    answer.headers["ETag"] = _tag(changed.version)
    return changed


def _tag(version: int) -> str:
    return f'"{version}"'


def _version(tag: str | None) -> int | None:
    """Return the version of `If-Match`, or None for any. Raises `Problem`."""
    if tag is None or tag.strip() == "*":
        return None
    match = re.fullmatch(r'(?:W/)?"?(\d{1,18})"?', tag.strip(), re.ASCII)
    if match is None:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "wrong-version", "`If-Match` is not a version", "send the `ETag` of GET"
        )
    return int(match[1])
