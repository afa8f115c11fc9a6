"""A recorded benchmark as tables: what must be read, and nothing that says the same in every row."""

from __future__ import annotations

import pytest
from support import latency

from dpt_deploy.report.bench_tables import digits, limits, scaling_table, steps_table, timing_table, upgraded

pytestmark = pytest.mark.fast


def column(table, head):
    return [row[table.heads.index(head)] for row in table.rows]


def test_a_row_shows_percentiles_throughput_memory_and_ratio():
    table = timing_table(latency.result(sizes=("64",)))
    shown = dict(zip(table.heads, table.rows[0], strict=True))
    assert shown["candidate"] == "torch"
    assert [shown[head] for head in ("p50 ms", "p90", "p99")] == ["200", "240", "260"]
    assert [shown[head] for head in ("images/s", "memory", "of ceiling", "runs")] == ["5.00", "500 MB", "25 %", "40"]
    assert shown["times slower than ort"] == "2.00 (1.80 to 2.20)"
    assert table.rows[2][-1] == "-"  # ours


def test_batches_show_when_there_are_several():
    assert "batch" not in timing_table(latency.result()).heads
    assert "batch" in timing_table(latency.result(batches=(1, 4))).heads


def test_memory_shows_when_it_was_measured():
    data = latency.result(sizes=("64",))
    for row in data["rows"]:
        row["memory"] = None
    assert "memory" not in timing_table(data).heads
    data["rows"][0]["memory"] = {"peak_bytes": None, "error": "it was killed"}
    assert column(timing_table(data), "memory") == ["failed", "-", "-"]


def test_memory_of_a_gpu_shows_where_there_is_one():
    data = latency.result(sizes=("64",))
    assert "GPU memory" not in timing_table(data).heads
    data["rows"][0]["memory"]["device_peak_bytes"] = 3_000_000
    assert column(timing_table(data), "GPU memory") == ["3 MB", "-", "-"]


def test_growth_stands_next_to_the_share_of_attention():
    table = scaling_table(latency.result())
    ours = [dict(zip(table.heads, row, strict=True)) for row in table.rows if row[0] == "ort"]
    assert [row["size"] for row in ours] == ["64", "96x128", "192"]
    assert [row["work grew"] for row in ours] == [row["time grew"] for row in ours] == ["1.00 x", "3.00 x", "10.00 x"]
    assert [row["attention"] for row in ours] == ["1.0 %", "3.0 %", "10.0 %"]
    assert scaling_table(latency.result(sizes=("64",))) is None


def test_steps_add_up():
    table = steps_table(latency.result(sizes=("64",)))
    assert dict(zip(table.heads, table.rows[0], strict=True))["total ms"] == "110"
    assert column(table, "outside the model") == ["9.1 %"]
    assert steps_table({"end_to_end_ms": {}}) is None


def test_few_rounds_are_reported():
    data = {"cases": [latency.case("64", rounds=40), latency.case("96", rounds=7)]}
    (fine, enough), (warned, few) = limits(data)
    assert fine == "64, batch 1: 40 rounds in 60 s, ended by the time limit"
    assert warned.startswith("96, batch 1: 7 rounds in 60 s, ended by the time limit; ")
    assert warned.endswith("fewer than 30, so p90 and p99 are unreliable")
    assert (enough, few) == (True, False)


def test_an_older_result_is_read():
    data, old = latency.result(sizes=("64",)), latency.result(sizes=("64",))
    for key in ("kind", "recorded", "cases", "photograph"):
        del old[key]
    for row in old["rows"]:
        row["median_ms"] = row.pop("p50_ms")
        del row["memory"]
    assert column(timing_table(upgraded(old)), "p50 ms") == column(timing_table(data), "p50 ms")
    assert limits(upgraded(old)) == []


def test_a_result_of_today_is_not_changed():
    assert upgraded(latency.result()) == latency.result()


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.5, "1234"), (99.94, "99.9"), (99.96, "100"), (28.0, "28.0"), (0.01234, "0.0123")]
)
def test_numbers_have_the_digits_that_mean_something(value, shown):
    assert digits(value) == shown
