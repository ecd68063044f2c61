"""Records as a table, and back."""

from coin_platform.model import Kind, Pair
from coin_platform.records import Facts, Header, Record
from coin_platform.tables import schema
from coin_platform.tables.dataframes import raw_table, records
from tests.kit.log import TIME, own, recorded


def test_raw_tables_keep_every_record_as_it_was() -> None:
    rest = Record(9, TIME, Header(Kind.REST, 1, "c", 9, TIME, Pair("BTC", "KRW")).pack(), b"{}")
    whole = [
        *recorded("upbit", "ticker"),
        own(8, Kind.OPENED, Facts(pairs=["BTC-KRW"])),
        rest,
        Record(10, TIME, "?", b""),
    ]
    assert list(records(raw_table(whole))) == whole
    assert raw_table([]).schema == schema.RAW
