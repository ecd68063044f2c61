"""`make sabotage`: switch off one mechanism after the other, and check that a test of its promise fails.

Each change is made in a copy of the tree. A promise whose tests still pass is not proved: the exit code is the number
of such mechanisms. `python -m tools.sabotage S1 K4` tries the mechanisms of some promises.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.kit.figures import ROOT

TEST_SECONDS = 600  # for the tests of one promise; more means that they hang


class Sabotage(NamedTuple):
    """One change of a file that switches a mechanism off, and the tests of which one must fail.

    `old` stands exactly once in the file. The tests are those whose name has the promise.
    """

    promise: str
    mechanism: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


SABOTAGES = (
    Sabotage(
        *("S1", "a frame is recognised by its identity"),
        "coin_platform/tables/transform.py",
        "        if skipped is None:\n            return FrameOutcome.DUPLICATE, []\n",
        "",
        ("tests/tables", "tests/preprocess"),
    ),
    Sabotage(
        *("C4", "the last good value is in force while the store cannot be read"),
        "coin_platform/cluster/last_good.py",
        "            self._say(_READS, str(error))\n            return self._known(key)\n",
        "            self._say(_READS, str(error))\n            return None\n",
        ("tests/cluster/test_last_good.py",),
    ),
    Sabotage(
        *("C4", "nonsense in the store is left alone, and the last good value is in force"),
        "coin_platform/cluster/last_good.py",
        "        if fault is not None:\n",
        "        if fault is not None and known is None:\n",
        ("tests/cluster/test_last_good.py",),
    ),
    Sabotage(
        *("C4", "what the store has lost is put back"),
        "coin_platform/cluster/last_good.py",
        "            self._mend(key, stored.version if stored else 0, known)\n",
        "",
        ("tests/cluster/test_last_good.py",),
    ),
    Sabotage(
        *("C4", "the last good values are on this disk, too"),
        "coin_platform/cluster/last_good.py",
        "            self._good[key] = entry\n        try:\n",
        "            self._good[key] = entry\n            return\n        try:\n",
        ("tests/cluster/test_last_good.py",),
    ),
    Sabotage(
        *("C4", "an empty set that nobody asked for is nonsense"),
        "coin_platform/cluster/pairs.py",
        "    if (empty or not pairs) and not is_explicit:\n",
        "    if False:\n",
        ("tests/cluster/test_last_good.py", "tests/collect/test_active_pairs.py"),
    ),
    Sabotage(
        *("C4", "the collector reads the store in a thread of its own"),
        "coin_platform/collect/active_pairs.py",
        "        thread.start()\n",
        "        follow()\n",
        ("tests/collect/test_active_pairs.py",),
    ),
    Sabotage(
        *("C4", "the status is announced in a thread of its own"),
        "coin_platform/cluster/announcer.py",
        "        self._is_offered.set()\n\n    def close",
        "        self._reporter.announce(components, wall())\n\n    def close",
        ("tests/cluster/test_announcer.py",),
    ),
    Sabotage(
        *("D4", "a window carries the last frame number of each connection on to the next"),
        "coin_platform/orchestration/raw_facts.py",
        'for epoch, name, number, time in facts.get("numbers", ())]',
        "for epoch, name, number, time in ()]",
        ("tests/tables/test_frame_numbers.py",),
    ),
    Sabotage(
        *("D4", "a worker that starts reads the last frame numbers from the log"),
        "coin_platform/preprocess/lookback.py",
        "transform.learn(_last_numbers(source, broker, newest[0], first))",
        "",
        ("tests/tables/test_frame_numbers.py",),
    ),
    Sabotage(
        *("D15", "values are checked against their columns"),
        "coin_platform/tables/schema.py",
        "            msgspec.convert(values, self._type)\n",
        "            pass\n",
        ("tests/preprocess/test_faults.py",),
    ),
    Sabotage(
        *("R1", "an unexpected error costs only the frame that caused it"),
        "coin_platform/tables/transform.py",
        "except Exception as error:  # whatever it is: it costs this record alone",
        "except DecodeError as error:",
        ("tests/preprocess/test_faults.py",),
    ),
    Sabotage(
        *("R4", "an unreadable frame ends the trust in its books, in windows"),
        "coin_platform/tables/orderbook.py",
        "return self._invalidate(connection, concerned, Cause.UNREADABLE, reason)",
        "return []",
        ("tests/tables/test_losses.py",),
    ),
    Sabotage(
        *("R4", "frames that never reached the log end the trust in their books, in windows"),
        "coin_platform/tables/transform.py",
        "        if self._can_hide_losses:\n",
        "        if missing < 0:\n",
        ("tests/tables/test_losses.py",),
    ),
    Sabotage(
        *("S2", "content that did not change is not written again"),
        "coin_platform/lake/lake.py",
        "if before and before.holds(facts) and self._objects.is_sound(key):",
        "if before and not facts:",
        ("tests/lake/test_lake.py", "tests/orchestration/test_materialise.py"),
    ),
    Sabotage(
        *("D1", "fewer records do not replace a stored raw window"),
        "coin_platform/lake/lake.py",
        '(is_raw or is_same) and facts["rows"] < stored["rows"] and not self.replaces_smaller',
        "False",
        ("tests/orchestration/test_offsets.py",),
    ),
    Sabotage(
        *("D1", "a log is recognised by its name"),
        "coin_platform/orchestration/raw_facts.py",
        "return False  # by its name",
        "pass",
        ("tests/orchestration/test_offsets.py",),
    ),
    Sabotage(
        *("D1", "a log that ends before its stored records is a new log"),
        "coin_platform/orchestration/raw_facts.py",
        ">= self.span.stop",
        ">= 0",
        ("tests/orchestration/test_offsets.py",),
    ),
    Sabotage(
        *("D2", "only the owner writes a lake"),
        "coin_platform/lake/lake_file.py",
        "if owner is not None and (ours is None or owner.id != ours.id):",
        "if False:",
        ("tests/lake/test_deployment.py",),
    ),
    Sabotage(
        *("D7", "content is compared with its hash when it is read"),
        "coin_platform/lake/parquet.py",
        'if rows_hash != facts["content_hash"]:',
        "if not now:",
        ("tests/orchestration/test_damaged_windows.py",),
    ),
    Sabotage(
        *("S3", "a file is replaced as a whole"),
        "coin_platform/lake/folder.py",
        "temporary.replace(path)",
        "path.write_bytes(data)",
        ("tests/lake/test_lake.py",),
    ),
    Sabotage(
        *("S4", "a commit compares before it swaps"),
        "coin_platform/lake/folder.py",
        "compare(key, self.get(key), if_match)\n                temporary",
        "temporary",
        ("tests/lake/test_lake.py",),
    ),
    Sabotage(
        *("S4", "writes to S3 are conditional"),
        "coin_platform/lake/s3.py",
        '{"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}',
        "{}",
        ("tests/lake/test_lake.py",),
    ),
    Sabotage(
        *("S5", "a scan opens later windows to find late rows"),
        "coin_platform/lake/scan.py",
        "None if end is None else microseconds(end + late)",
        "None if end is None else microseconds(end)",
        ("tests/lake/test_lake.py",),
    ),
    Sabotage(
        *("D3", "a clock that jumped does not stamp records"),
        "coin_platform/steady_clock.py",
        "if abs(wall - expected) <= MAX_STEP:",
        "if wall or abs(wall - expected) <= MAX_STEP:",
        ("tests/test_steady_clock.py", "tests/journal/test_clock_jumps.py"),
    ),
    Sabotage(
        *("D3", "an epoch rises with every start"),
        "coin_platform/collect/epoch.py",
        "    if newest < milliseconds:\n        return milliseconds\n",
        "    if newest < 2 * milliseconds:\n        return milliseconds\n",
        ("tests/collect/test_epoch.py",),
    ),
    Sabotage(
        *("D3", "the queue of runs counts seconds that have passed"),
        "coin_platform/orchestration/dagster_clocks.py",
        "for module in (daemon, queue, server, proxy_server):",
        "for module in (server, proxy_server):",
        ("tests/orchestration/test_dagster_clocks.py",),
    ),
    Sabotage(
        *("D3", "a sensor whose last tick lies in the future is due"),
        "coin_platform/orchestration/dagster_clocks.py",
        "return None if seconds is not None and seconds < 0 else seconds",
        "return seconds",
        ("tests/orchestration/test_dagster_clocks.py",),
    ),
    Sabotage(
        *("D3", "a run that starts while the clock jumps has its time"),
        "coin_platform/orchestration/run_process.py",
        "return age > elapsed() - _BEGAN",
        "return age > 0",
        ("tests/orchestration/test_watchdog.py",),
    ),
    Sabotage(
        *("D3", "old runs are forgotten by the daemon's clock"),
        "coin_platform/orchestration/retention.py",
        "forget(context.instance, kept_ids, _scheduled_time(context.run))",
        "forget(context.instance, kept_ids, None)",
        ("tests/orchestration/test_retention.py",),
    ),
    Sabotage(
        *("D3", "a window that is over by the log's clock exists"),
        "coin_platform/orchestration/partitions.py",
        "return max(_by_our_clock(partitions), _latest_come)",
        "return _by_our_clock(partitions)",
        ("tests/orchestration/test_partitions.py",),
    ),
    Sabotage(
        *("D3", "a backfill leaves the window that is open by the clock of its log"),
        "coin_platform/orchestration/backfill.py",
        "lambda: self._log_time(name)",
        "lambda: 1 << 62",
        ("tests/commands/test_lake.py",),
    ),
    Sabotage(
        *("D3", "a process that begins on a clock that is ahead waits for what the log tells"),
        "coin_platform/orchestration/log_clock.py",
        "moment - self._first[1] >= self._settle_seconds",
        "moment >= self._settle_seconds",
        ("tests/orchestration/test_log_clock.py", "tests/orchestration/test_materialise.py"),
    ),
    Sabotage(
        *("F5", "a polled feed is taken over once every pair has been answered"),
        "coin_platform/collect/poller.py",
        'return self.state == "live" and not self.plan.unconfirmed',
        'return self.state == "live"',
        ("tests/collect/test_poller.py",),
    ),
    Sabotage(
        *("F5", "beside another collector nothing is asked for before the opening has its place in the log"),
        "coin_platform/collect/connection.py",
        "        await self._recorder.take_place_in_log()\n",
        "",
        ("tests/collect/test_take_over.py",),
    ),
    Sabotage(
        *("S8", "a window that was made before the one that precedes it is made again"),
        "coin_platform/orchestration/close_windows.py",
        "if progress.is_done(after) and self._is_outdated(after):",
        "if False and self._is_outdated(after):",
        ("tests/orchestration/test_crashes.py",),
    ),
    Sabotage(
        *("S6", "frames are compared with rows"),
        "coin_platform/tables/quality.py",
        'passed = counts["frames"] == ends and',
        'passed = bool(counts) or counts["frames"] == ends and',
        ("tests/tables/test_quality.py", "tests/orchestration/test_materialise.py"),
    ),
    Sabotage(
        *("S7", "a frame that cannot be decoded becomes a dead letter"),
        "coin_platform/tables/transform.py",
        "self.dead.append(DeadRecord(record, header, error))",
        "pass",
        ("tests/tables", "tests/preprocess"),
    ),
    Sabotage(
        *("R1", "an integer that fits no column is a dead letter"),
        "coin_platform/exchanges/checks.py",
        "if value is not None and not least <= value <= most:",
        "if value is not None and value != value:",
        ("tests/exchanges/test_bounds.py",),
    ),
    Sabotage(
        *("R5", "an aggregated trade covers the ids of its trades"),
        "coin_platform/tables/known_trades.py",
        "self._by_span(pair, int(id) - trade.count + 1, int(id), time)",
        "self._by_id(pair, id, trade, time)",
        ("tests/tables/test_known_trades.py",),
    ),
    Sabotage(
        *("R5", "a trade with two ids is recognised by its time, price, size and side"),
        "coin_platform/exchanges/bithumb.py",
        "has_ids_by_transport = True",
        "has_ids_by_transport = False",
        ("tests/tables/test_known_trades.py",),
    ),
    Sabotage(
        *("R5", "the records read before a window reach back to its oldest trade"),
        "coin_platform/orchestration/materialise.py",
        "return min(window.start - int(oldest) + LEAD, TRADE_MEMORY)",
        "return LEAD",
        ("tests/tables/test_old_trades.py",),
    ),
    Sabotage(
        *("R5", "the newest trades of a pair are remembered, however old they are"),
        "coin_platform/tables/known_trades.py",
        "            return horizon",
        "            return since",
        ("tests/tables/test_old_trades.py",),
    ),
    Sabotage(
        *("R2", "an unknown pair is refused for good"),
        "coin_platform/exchanges/base.py",
        "refusal=rule.refusal,",
        "refusal=Refusal.TEMPORARY,",
        ("tests/exchanges/test_refusals.py",),
    ),
    Sabotage(
        *("S8", "an ended connection opens a gap"),
        "coin_platform/tables/pending_gaps.py",
        "gaps.append(PendingGap(start, cause, reason, reached=start))\n        return [self.gap(name, gaps[-1])]",
        "return []",
        ("tests/tables", "tests/preprocess", "tests/orchestration/test_materialise.py"),
    ),
    Sabotage(
        *("S8", "missing frame numbers are counted"),
        "coin_platform/tables/gaps.py",
        "missing = header.number - connection.number - header.kind.is_frame",
        "missing = 0",
        ("tests/tables", "tests/preprocess"),
    ),
    Sabotage(
        *("K1", "a client soon finds a broker that is back"),
        "coin_platform/broker/kafka_client.py",
        "reconnect_backoff_max_ms=_BACKOFF_MAX_MS",
        "reconnect_backoff_max_ms=30_000",
        ("tests/broker/test_shipper.py",),
    ),
    Sabotage(
        *("K1", "an appended record waits on disk"),
        "coin_platform/broker/shipper.py",
        "self.spool(topic, partition).journal.append(header, value)",
        "self.flush(60)\n        self.spool(topic, partition).journal.append(header, value)",
        ("tests/broker/test_shipper.py",),
    ),
    Sabotage(
        *("K1", "a round is no larger than the line carries in time"),
        "coin_platform/broker/shipper.py",
        "self._room = max(_ROUND_MIN_BYTES, min(self._in_flight, int(size * _ROUND_MAX_SECONDS / seconds)))",
        "pass",
        ("tests/broker/test_shipper.py",),
    ),
    Sabotage(
        *("K2", "a new shipper begins with the records left to send"),
        "coin_platform/broker/spool.py",
        "self.next = self._trimmed = bounds.begin",
        "self.next = self._trimmed = bounds.end",
        ("tests/broker/test_shipper.py",),
    ),
    Sabotage(
        *("K3", "a record that failed is sent again"),
        "coin_platform/broker/shipper.py",
        "if error is not None:\n                return error\n            spool.next += 1",
        "spool.next += 1",
        ("tests/broker/test_shipper.py",),
    ),
    Sabotage(
        *("K3", "a producer in a fatal state is replaced"),
        "coin_platform/broker/shipper.py",
        "if errors:\n            self._discard()",
        "if errors:",
        ("tests/broker/test_shipper.py",),
    ),
    Sabotage(
        *("K4", "a consumer of a partition that does not move is rebuilt"),
        "coin_platform/preprocess/partition.py",
        "elif moment - self._stalled[1] > STUCK_SECONDS:",
        "elif moment < 0:",
        ("tests/tables", "tests/preprocess"),
    ),
    Sabotage(
        *("D9", "a run whose process vanished is declared failed"),
        "coin_platform/orchestration/run_process.py",
        'is_alive(record.dagster_run.tags.get(PROCESS_TAG, "")) is False]',
        "record is None]",
        ("tests/orchestration/test_close_windows.py",),
    ),
    Sabotage(
        *("D9", "a run that never got a process is declared failed"),
        "coin_platform/orchestration/run_process.py",
        "(LEFT_SECONDS if _is_left(record) else BOOT_SECONDS)",
        "1e9",
        ("tests/orchestration/test_close_windows.py",),
    ),
    Sabotage(
        *("D10", "a failed window is tried again without an end"),
        "coin_platform/orchestration/window_runs.py",
        "delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS",
        "delay = 1e9 if attempts(run) > 3 else min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS",
        ("tests/orchestration/test_close_windows.py",),
    ),
    Sabotage(
        *("D10", "delays between attempts at a window grow"),
        "coin_platform/orchestration/window_runs.py",
        "2.0 ** min(attempts(run) - 1, 30)",
        "2.0 ** 0",
        ("tests/orchestration/test_close_windows.py",),
    ),
    Sabotage(
        *("F1", "the sequence of a book is checked"),
        "coin_platform/book.py",
        "if self.sequence is None or update.first_sequence is None:\n            return",
        "return",
        ("tests/exchanges", "tests/collect/test_session.py"),
    ),
    Sabotage(
        *("F1", "the checksum of a book is checked"),
        "coin_platform/exchanges/base.py",
        "if checksum != update.checksum:",
        "if checksum is None:",
        ("tests/exchanges", "tests/collect/test_session.py"),
    ),
    Sabotage(
        *("R2", "a pair refused for the moment is asked for again"),
        "coin_platform/collect/refusals.py",
        "self._retry_at[pair] = now.monotonic + max(wait, event.ban_seconds)",
        "wait += 0",
        ("tests/collect/test_session.py", "tests/collect/test_service.py"),
    ),
    Sabotage(
        *("R2", "a connection that serves no pair is not complete"),
        "coin_platform/collect/session.py",
        "return bool(self.served) and not missing and not self.invalid",
        "return not (self._pairs.keys() - self._delivered - self.refused.keys()) and not self.invalid",
        ("tests/collect/test_session.py",),
    ),
    Sabotage(
        *("R3", "a gap ends with data of the pair"),
        "coin_platform/tables/gaps.py",
        "return [name for name in connection.unheard if name in names]",
        "return [*connection.unheard]",
        ("tests/tables/test_gaps.py",),
    ),
    Sabotage(
        *("D5", "a feed logs the pairs it wants at its start"),
        "coin_platform/collect/feed.py",
        "self._is_running = True\n        self._log_pairs()",
        "",
        ("tests/collect/test_gap_reports.py",),
    ),
    Sabotage(
        *("D5", "a gap that lasts is a row of every window"),
        "coin_platform/orchestration/materialise_gaps.py",
        "gaps.carry_on(window.start, raw.facts.span.start)",
        "pass",
        ("tests/orchestration/test_materialise.py",),
    ),
    Sabotage(
        *("R4", "an unreadable change ends the trust in a book"),
        "coin_platform/collect/session.py",
        "self._doubt(frame, error, now)",
        "pass",
        ("tests/collect/test_session.py",),
    ),
    Sabotage(
        *("F2", "a pair is resynced at most once in ten seconds"),
        "coin_platform/collect/session.py",
        'if now.monotonic - self._resynced_at.get(pair, float("-inf")) < ANSWER_SECONDS:\n            return',
        "",
        ("tests/collect/test_session.py",),
    ),
    Sabotage(
        *("F3", "a silent connection is replaced"),
        "coin_platform/collect/connection.py",
        "if at - self._heard > exchange.silence_seconds:",
        "if at < 0:",
        ("tests/collect",),
    ),
    Sabotage(
        *("F4", "delays between connects grow"),
        "coin_platform/collect/pacing.py",
        "self._failures += 1",
        "pass",
        ("tests/collect",),
    ),
    Sabotage(
        *("D16", "an answer is unpacked only up to its limit"),
        "coin_platform/collect/rest.py",
        "unpack.decompress(chunk, room_bytes)",
        "unpack.decompress(chunk)",
        ("tests/collect/test_rest.py",),
    ),
    Sabotage(
        *("D17", "bytes that wait for the disk have a budget"),
        "coin_platform/collect/recorder.py",
        "if waiting + len(payload) > WAITING_BYTES:",
        "if waiting < 0:",
        ("tests/collect/test_budgets.py",),
    ),
    Sabotage(
        *("D18", "a peer that does not read our answers is cut off"),
        "coin_platform/collect/websocket.py",
        "> UNREAD_BYTES:",
        "> UNREAD_BYTES << 20:",
        ("tests/collect/test_budgets.py",),
    ),
    Sabotage(
        *("D18", "pings of a peer are counted"),
        "coin_platform/collect/websocket.py",
        "elif self._pings > PINGS_PER_SECOND:",
        "elif self._pings < 0:",
        ("tests/collect/test_budgets.py",),
    ),
    Sabotage(
        *("D18", "a connection with many messages leaves others their turn"),
        "coin_platform/collect/connection.py",
        "if time.monotonic() > turn_end:",
        "if time.monotonic() < 0:",
        ("tests/collect/test_budgets.py",),
    ),
    Sabotage(
        *("D18", "a write has a deadline"),
        "coin_platform/collect/websocket.py",
        "async with asyncio.timeout(WRITE_SECONDS):",
        "async with asyncio.timeout(None):",
        ("tests/collect/test_budgets.py",),
    ),
    Sabotage(
        *("D18", "the end of a connection does not wait for a peer that does not read"),
        "coin_platform/collect/websocket.py",
        "async with asyncio.timeout(2 * CLOSE_SECONDS):",
        "async with asyncio.timeout(None):",
        ("tests/collect/test_budgets.py",),
    ),
    Sabotage(
        *("D19", "markup of others is shown as text"),
        "coin_platform/foreign.py",
        "return _MARKUP.sub(_reference, _LINK_STARTS.sub(_ZERO_WIDTH_SPACE, one_line(text)))",
        "return one_line(text)",
        ("tests/test_foreign.py",),
    ),
    Sabotage(
        *("D23", "REST uses the proxy, as sockets do"),
        "coin_platform/collect/outbound.py",
        "httpx.Proxy(self.proxy, ssl_context=secured) if self.proxy else None",
        "None",
        ("tests/collect/test_outbound.py",),
    ),
    Sabotage(
        *("D24", "a typo in `.env` is refused"),
        "coin_platform/env_file.py",
        '            refuse_unknown_name(name, f" in {place}", known_names)\n',
        "            pass\n",
        ("tests/test_settings_refused.py",),
    ),
    Sabotage(
        *("D24", "a setting that stands twice in `.env` is refused"),
        "coin_platform/env_file.py",
        "            if name in lines:\n",
        "            if False:\n",
        ("tests/test_settings_refused.py",),
    ),
    Sabotage(
        *("C1", "a server that others reach needs a key"),
        "coin_platform/serve/keys.py",
        "if not is_loopback(settings.serve_host):",
        "if False:",
        ("tests/serve/test_keys.py",),
    ),
    Sabotage(
        *("C1", "a key's scope is compared with what the route needs"),
        "coin_platform/serve/access.py",
        "if not key.scope.includes(scope):",
        "if False:",
        ("tests/serve/test_pairs.py",),
    ),
    Sabotage(
        *("C1", "wrong keys are counted for each address"),
        "coin_platform/serve/access.py",
        "            self._rates.wrong_key(address)\n",
        "",
        ("tests/serve/test_keys.py",),
    ),
    Sabotage(
        *("C2", "an error of ours is a problem without its text"),
        "coin_platform/serve/problems.py",
        '"the server failed to answer this request"',
        "repr(error)",
        ("tests/serve/test_generated.py",),
    ),
    Sabotage(
        *("C2", "the address of a problem is not made of the query"),
        "coin_platform/serve/problems.py",
        'request.scope["path"]',
        "str(request.url)",
        ("tests/serve/test_generated.py",),
    ),
    Sabotage(
        *("R15", "a wanted pair that is not listed fails the check"),
        "coin_platform/tables/quality.py",
        "        if state is InstrumentState.DELISTED:\n",
        "        if state is InstrumentState.UPCOMING:\n",
        ("tests/tables/test_instrument.py", "tests/orchestration/test_instruments.py"),
    ),
    Sabotage(
        *("R15", "a wanted pair that is halted is named"),
        "coin_platform/tables/quality.py",
        "elif state is not None and not state.is_traded:",
        "elif state is InstrumentState.UPCOMING:",
        ("tests/tables/test_instrument.py", "tests/orchestration/test_instruments.py"),
    ),
    Sabotage(
        *("D18", "a request has a deadline"),
        "coin_platform/serve/connections.py",
        "            self._set_deadline(self.loop.call_later(seconds, end))\n",
        "",
        ("tests/serve/test_connections.py",),
    ),
    Sabotage(
        *("D18", "a server has a limit of connections"),
        "coin_platform/serve/connections.py",
        "if len(self.connections) >= self.limits.most_connections:",
        "if False:",
        ("tests/serve/test_connections.py",),
    ),
    Sabotage(
        *("D18", "an answer has a deadline to be read"),
        "coin_platform/serve/connections.py",
        "        self._unread_deadline = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)\n",
        "",
        ("tests/serve/test_connections.py",),
    ),
    Sabotage(
        *("C3", "coin settings does not show secrets"),
        "coin_platform/commands/settings.py",
        'return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)',
        'return getattr(value, "get_secret_value", lambda: str(value))()',
        ("tests/serve/test_secrets.py", "tests/test_settings_refused.py"),
    ),
    Sabotage(
        *("C3", "a wrong key of the settings is not shown"),
        "coin_platform/serve/keys.py",
        '        place = f"{source}, {part} {number}"\n',
        '        place = f"{source}, {entry}"\n',
        ("tests/serve/test_keys.py",),
    ),
    Sabotage(
        *("D26", "a foreign Host or Origin is refused"),
        "coin_platform/runtime/own_names.py",
        "return len(hosts) == 1 and all(name in names for name in found)",
        "return len(hosts) == 1",
        ("tests/orchestration/test_ui_names.py",),
    ),
    Sabotage(
        *("D27", "a new secret is a new version"),
        "coin_platform/orchestration/version.py",
        " + _digest_of_secrets(_secrets(settings))",
        "",
        ("tests/infra/test_pinned.py",),
    ),
    Sabotage(
        *("R12", "an answer fills only the gap that it covers"),
        "coin_platform/tables/pending_gaps.py",
        "if since is not None and since <= gap.reached < time:",
        "if gap.reached < time:",
        ("tests/tables/test_pending_gaps.py",),
    ),
    Sabotage(
        *("R9", "a ban holds for all kinds of requests"),
        "coin_platform/collect/rest.py",
        "for bucket in self._buckets:",
        "for bucket in (self._bucket,):",
        ("tests/collect/test_rest.py",),
    ),
    Sabotage(
        *("F5", "a connection stays until its successor has data"),
        "coin_platform/collect/feed.py",
        "await connection.ready.wait()\n        while self._lacks",
        "while self._lacks",
        ("tests/collect",),
    ),
    Sabotage(
        *("F5", "an event from two connections is one row"),
        "coin_platform/tables/duplicates.py",
        "if copy.offset >= since and copy.time >= record.time - LEAD and identity not in copy.brought_by:",
        "if copy.offset < 0:",
        ("tests/tables", "tests/preprocess"),
    ),
    Sabotage(
        *("F5", "a new collector waits until all its feeds are live"),
        "coin_platform/collect/take_over.py",
        "await self._wait_until(self._is_whole, self._timing.live_seconds, stop)\n"
        "        are_live = all(feed.is_served for feed in self._feeds)",
        "are_live = True",
        ("tests/collect/test_take_over.py",),
    ),
    Sabotage(
        *("F5", "a collector beside another one does not end its feeds"),
        "coin_platform/tables/gaps.py",
        "is_beside = not header.kind.is_frame and unpack_facts(value).beside",
        "is_beside = False",
        ("tests/tables/test_gaps.py",),
    ),
    Sabotage(
        *("F6", "time-outs use the monotonic clock"),
        "coin_platform/collect/connection.py",
        "exchange, at = self.route.exchange, moment.monotonic",
        "exchange, at = self.route.exchange, moment.wall / 1_000_000",
        ("tests/collect",),
    ),
    Sabotage(
        *("C3", "the log hides secrets"),
        "coin_platform/runtime/log_lines.py",
        "text = self._redact(text[: 16 * LONGEST_LINE])",
        "text = text[: 16 * LONGEST_LINE]",
        ("tests/runtime/test_logs.py",),
    ),
    Sabotage(
        *("W2", "a client without room is sent nothing"),
        "coin_platform/serve/feed/clients.py",
        "elif client.unsent_bytes < ROOM_BYTES:",
        "elif client.unsent_bytes < ROOM_BYTES << 20:",
        ("tests/serve/feed/test_clients.py",),
    ),
    Sabotage(
        *("W5", "a snapshot tells what bundles have told, and nothing of the next one"),
        "coin_platform/serve/feed/hub.py",
        "        self._waiting += records\n",
        "        self._waiting += (records := list(records))\n        self.latest.take(records)\n",
        ("tests/serve/feed/test_hub.py",),
    ),
    Sabotage(
        *("C5", "what did not come to Redis is counted"),
        "coin_platform/preprocess/redis_feed.py",
        "        self.skipped += start - self._positions[place]\n",
        "",
        ("tests/preprocess/test_redis_feed.py",),
    ),
    Sabotage(
        *("C5", "a service is up only after good probes over some seconds"),
        "coin_platform/serve/feed/ladder.py",
        "lasts = moment - self.good_since >= times.up_seconds",
        "lasts = True",
        ("tests/serve/feed/test_ladder.py",),
    ),
    Sabotage(
        *("C5", "a move up waits after the last move"),
        "coin_platform/serve/feed/ladder.py",
        "moment - self._moved < self._times.climb_seconds",
        "moment < self._moved",
        ("tests/serve/feed/test_ladder.py",),
    ),
    Sabotage(
        *("W5", "offsets that Redis does not have are a hole"),
        "coin_platform/serve/feed/redis_source.py",
        "if expected is not None and record.offset > expected:",
        "if expected is not None and record.offset < expected:",
        ("tests/serve/feed/test_redis_source.py", "tests/serve/feed/test_reader.py"),
    ),
    Sabotage(
        *("C5", "the feed of a service that is down closes its clients"),
        "coin_platform/serve/feed/bound.py",
        "                    self._close_clients()\n",
        "",
        ("tests/serve/feed/test_bound.py",),
    ),
    Sabotage(
        *("W5", "what this machine told comes from the log no more"),
        "coin_platform/serve/feed/border.py",
        "                    if mark <= marks[-1]:\n",
        "                    if mark < 0:\n",
        ("tests/serve/feed/test_frames_source.py",),
    ),
    Sabotage(
        *("W5", "a record that comes late is a hole"),
        "coin_platform/serve/feed/border.py",
        "late[place] = late.get(place, 0) + (not is_told)",
        "late[place] = 0 * is_told",
        ("tests/serve/feed/test_frames_source.py",),
    ),
    Sabotage(
        *("W2", "a large snapshot waits until the client has room"),
        "coin_platform/serve/feed/clients.py",
        "        while client.unsent_bytes < ROOM_BYTES:\n",
        "        while True:\n",
        ("tests/serve/feed/test_clients.py",),
    ),
    Sabotage(
        *("C5", "a feed whose log does not answer says so"),
        "coin_platform/serve/feed/reports.py",
        'state = "degraded" if failure else "live"',
        'state = "live"',
        ("tests/serve/feed/test_reports.py",),
    ),
    Sabotage(
        *("D5", "a connection that brings no list is replaced"),
        "coin_platform/collect/session.py",
        "return self._is_list and is_late and not (self._unnamed_refusal or self.refused)",
        "return self._is_list and is_late and not (is_late or self._unnamed_refusal or self.refused)",
        ("tests/collect/test_listings.py",),
    ),
    Sabotage(
        *("F7", "every error of a parser is a decode error"),
        "coin_platform/exchanges/parsing.py",
        "PARSE_ERRORS = (msgspec.MsgspecError, UnknownPair, ValueError, ArithmeticError, LookupError, RecursionError)",
        "PARSE_ERRORS = (msgspec.MsgspecError,)",
        ("tests/exchanges",),
    ),
    Sabotage(
        *("L2", "a leader steps down when its last proof is too old"),
        "coin_platform/cluster/election.py",
        "        return self._ticket if self._is_first and not self.is_silent else None\n",
        "        return self._ticket if self._is_first else None\n",
        ("tests/cluster/test_election.py",),
    ),
    Sabotage(
        *("L2", "nothing is sent from the first sign of trouble on"),
        "coin_platform/cluster/election.py",
        "        return not self._is_held and not self.is_silent\n",
        "        return True\n",
        ("tests/cluster/test_election.py",),
    ),
    Sabotage(
        *("L3", "no frame is taken after a term"),
        "coin_platform/collect/recorder.py",
        "        if not self._term.lasts():\n",
        "        if False:\n",
        ("tests/collect/test_candidate.py",),
    ),
    Sabotage(
        *("L3", "readers refuse what a former leader reads beside its successor"),
        "coin_platform/tables/transform.py",
        "            if self._is_former and self._fence.refuses(header, event.pair):\n",
        "            if False:\n",
        ("tests/tables/test_fence.py",),
    ),
)


def survives(sabotage: Sabotage) -> str | None:
    """Switch a mechanism off and run the tests of its promise. Return what is wrong if no test fails."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_left_out)
        file = tree / sabotage.file
        text = file.read_text(encoding="utf-8")
        if text.count(sabotage.old) != 1:
            return (
                f"{sabotage.file} holds the text {text.count(sabotage.old)} times, not once: name where it stands now"
            )
        file.write_text(text.replace(sabotage.old, sabotage.new), encoding="utf-8")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                "-k",
                f"{sabotage.promise}_",
                *sabotage.tests,
            ],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=TEST_SECONDS,
            check=False,
        )
    failed = [
        line.split(" - ")[0].removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED ")
    ]
    if done.returncode == 1 and failed:
        console.print(f"  {failed[0]} fails", highlight=False, soft_wrap=True)
        return None
    return f"no test failed; pytest ended with {done.returncode}: {done.stdout.strip().splitlines()[-1:]}"


def _left_out(folder: str, names: list[str]) -> set[str]:
    unneeded = {".git", ".venv", "data", "reports"} if Path(folder) == ROOT else set()
    return (unneeded | {"__pycache__"}) & set(names)


console = Console()


def main() -> int:
    """Try every sabotage, or those of the promises named on the command line. Return how many no test noticed."""
    chosen = [sabotage for sabotage in SABOTAGES if sabotage.promise in sys.argv[1:] or len(sys.argv) == 1]
    table, survivors = Table("promise", "switched off", "tests"), 0
    for sabotage in chosen:
        console.print(f"{sabotage.promise}, switched off: {sabotage.mechanism}", highlight=False)
        problem = survives(sabotage)
        survivors += problem is not None
        table.add_row(sabotage.promise, sabotage.mechanism, problem or "fail, as they should")
    console.print(table)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
