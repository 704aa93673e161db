"""Writes of_pyarrow.parquet, which the tests read: pip install pyarrow==21.0.0, then run this here."""

import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2026, 11, 21, 12, 30, 0, 250_000)

table = pa.table(
    {
        "id": pa.array([1, 2, None], pa.uint16()),
        "text": pa.array(["a", None, "é"]).dictionary_encode(),
        "half": pa.array([0.5, None, -2.0], pa.float16()),
        "tensor": pa.array([[[1.0, 2.0], [3.0]], [], None], pa.list_(pa.list_(pa.float32()))),
        "fixed": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int8(), 2)),
        "utc": pa.array([MOMENT.replace(tzinfo=UTC), None, None], pa.timestamp("us", tz="UTC")),
        "local": pa.array([MOMENT, None, None], pa.timestamp("ms")),
        "date": pa.array([MOMENT.date(), None, None]),
        "time": pa.array([MOMENT.time(), None, None]),
        "price": pa.array([decimal.Decimal("12.50"), decimal.Decimal("-0.05"), None]),
        "raw": pa.array([b"\x00\xff", b"", None]),
        "flag": pa.array([True, False, None]),
        "nothing": pa.nulls(3),
        "struct": pa.array([{"a": 1}, None, None]),
    }
)
pq.write_table(
    table,
    "of_pyarrow.parquet",
    row_group_size=2,
    compression="zstd",
    data_page_version="2.0",
    use_dictionary=["text"],
)
