"""SQL of users is one SELECT on the documented tables: all else fails, tells nothing, changes nothing."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicomlake
from dicomlake.catalog.mirror import Mirror, shown
from dicomlake.catalog.mirror.tables import TABLES
from dicomlake.catalog.sql import select
from dicomlake.errors import QueryError
from dicomlake.lake import Lake
from tests.objects import dicom, series

NAME, PATIENT = "Planted^Name", "PLANTED-ID"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake with two patients, whose mirror is up to date and has a part of each kind."""
    with dicomlake.open(tmp_path_factory.mktemp("sql") / "lake", create=True) as opened:
        opened.ingest(series(3, PatientID=PATIENT, PatientName=NAME, StudyDescription="a free text"))
        opened.ingest(dicom(series="1.2.3.4", PatientID="OTHER"))
        for table in TABLES:
            opened._mirror.session().execute(f"SELECT * FROM {table}").fetchall()
        yield opened


def snapshot(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


WRITES = """
copy (select 1) to '{out}/stolen.csv'
copy series to '{out}/stolen.parquet' (format parquet)
copy (select 1) to '{lake}/mirror/state.json'
copy series from '/etc/passwd'
export database '{out}/stolen'
import database '{out}/stolen'
attach '{out}/stolen.db'
attach '{lake}/catalog.sqlite' as truth (type sqlite)
detach memory
insert into series select * from series
insert into tail_series select * from tail_series
update volumes set key = ''
delete from volumes
truncate tail_series
create table stolen as select 1
create or replace view series as select 1
create temp table stolen as select 1
create macro stolen() as 1
create type stolen as enum ('a')
create schema stolen
create sequence stolen
drop view series
drop table tail_series
alter table tail_series rename to stolen
merge into tail_series using series s on true when matched then delete
comment on view series is 'stolen'
vacuum
checkpoint
begin
rollback
prepare stolen as select 1
execute stolen
select 1; select 2
select 1; drop view series
/* select */ drop view series
with x as (select 1) insert into tail_series select * from tail_series
with x as (delete from tail_series returning *) select * from x
"""

SETTINGS = """
set enable_external_access = true
set memory_limit = '1TB'
set lock_configuration = false
reset allowed_directories
set variable stolen = 1
pragma database_list
pragma enable_profiling
pragma version
use memory.information_schema
install httpfs
load httpfs
call duckdb_functions()
call enable_logging()
explain analyze select 1
explain select * from series
show all tables
show databases
show tables
select current_setting('temp_directory')
select current_setting('allowed_directories')
select getenv('HOME')
select getvariable('stolen')
select * from duckdb_settings()
select * from duckdb_secrets()
select * from duckdb_views()
select sql from duckdb_views() where view_name = 'series'
select * from duckdb_databases()
select * from duckdb_temporary_files()
select * from duckdb_external_file_cache()
select * from duckdb_extensions()
select * from duckdb_logs
select * from duckdb_views
select * from pragma_database_size()
select * from pragma_show('series')
select pg_get_viewdef(1)
select * from sqlite_master
select * from information_schema.tables
select * from pg_catalog.pg_views
select view_definition from information_schema.views
select current_query()
select version()
select * from enable_profiling()
select * from force_checkpoint()
select write_log('stolen')
select nextval('stolen')
select setseed(0.5)
select sleep_ms(1)
select pg_sleep(1)
"""

FILES = """
select * from read_csv('/etc/passwd')
select * from read_csv_auto('{lake}/lake.toml')
select * from read_text('/etc/passwd')
select * from read_text('{lake}/mirror/state.json')
select * from read_blob('{lake}/lake.toml')
select * from read_parquet('{lake}/mirror/*.parquet')
select * from parquet_scan('{lake}/mirror/*.parquet')
select * from read_json('{lake}/mirror/*.jsonl')
select * from read_json_auto('{lake}/mirror/*.jsonl')
select * from read_ndjson('{lake}/mirror/*.jsonl')
select * from read_ndjson_objects('{lake}/mirror/*.jsonl')
select * from parquet_metadata('{lake}/mirror/*.parquet')
select * from parquet_schema('{lake}/mirror/*.parquet')
select * from parquet_kv_metadata('{lake}/mirror/*.parquet')
select * from parquet_file_metadata('{lake}/mirror/*.parquet')
select * from sniff_csv('/etc/passwd')
select * from glob('/etc/*')
select * from glob('{lake}/mirror/*')
select * from '/etc/passwd'
select * from "/etc/passwd"
select * from '{lake}/mirror/state.json'
select * from "{lake}/mirror/state.json"
select * from '{lake}/mirror/*.jsonl'
select * from 'https://example.org/x.parquet'
select * from 's3://bucket/x.parquet'
select (select content from read_text('/etc/passwd'))
select 1 where exists (from '/etc/passwd')
select 1 order by (select max(content) from read_text('/etc/passwd'))
select * from series where PatientID in (from read_text('/etc/passwd') select content)
with x as (select * from read_text('/etc/passwd')) select * from x
with x as (select 1) select * from x union all select content from read_text('/etc/passwd')
select * from (with "/etc/passwd" as (select 1) select 2), '/etc/passwd'
with recursive t as (select 1 union all select 1 from read_text('/etc/passwd')) select * from t
select * from series join lateral (select * from read_text('/etc/passwd')) on true
select unnest((select list(content) from read_text('/etc/passwd')))
from read_text('/etc/passwd')
describe select * from read_text('/etc/passwd')
summarize '/etc/passwd'
describe '/etc/passwd'
pivot '/etc/passwd' on a using count(*)
table '/etc/passwd'
select * from query('select * from read_text(''/etc/passwd'')')
select * from query_table('/etc/passwd')
select * from query_table(['series'])
select * from json_execute_serialized_sql(json_serialize_sql('select 1'))
select * from seq_scan('tail_series')
select * from read_duckdb('{lake}/x.db')
select * from arrow_scan(1, 2, 3)
select * from pandas_scan(140000)
select * from python_map_function(1)
select * from tail_series
select * from closed_series
select * from system.main.duckdb_settings
select * from temp.main.series
select * from lake
select * from __builtins__
"""

NONSENSE = """

selekt 1
select nothing from series
select * from nowhere
select nothing(1)
select sum(Modality) from series
"""


def attempts(text: str) -> list[str]:
    return text.strip("\n").split("\n")


@pytest.mark.parametrize(
    "query",
    [
        *attempts(WRITES),
        *attempts(SETTINGS),
        *attempts(FILES),
        *attempts(NONSENSE),
        "select 1\0; drop view series",
    ],
)
def test_an_attempt_fails_and_leaves_all_files_as_they_are(lake: Lake, tmp_path: Path, query: str) -> None:
    before = snapshot(lake.path)
    with pytest.raises(QueryError) as caught:
        lake.sql(query.format(out=tmp_path, lake=lake.path)).fetchall()
    assert snapshot(lake.path) == before
    assert list(tmp_path.iterdir()) == []
    assert "/" not in str(caught.value)  # no path
    assert lake.sql("select count(*) from series").fetchall() == [(2,)]  # and the tables answer as before


def test_the_database_beneath_reads_no_other_files_whoever_asks(lake: Lake, tmp_path: Path) -> None:
    """The second wall, without the first."""
    import duckdb

    cursor = lake._mirror.session().cursor()
    (tmp_path / "x.csv").write_text("a\n1\n")
    for query in (
        f"select * from '{tmp_path}/x.csv'",
        f"select * from read_text('{lake.path}/mirror/../lake.toml')",
        f"copy (select 1) to '{tmp_path}/y.csv'",
        f"attach '{tmp_path}/z.db'",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "load httpfs",
    ):
        with pytest.raises(duckdb.Error):
            cursor.execute(query)
    frame = {"a": 1}  # a variable of Python is no table
    with pytest.raises(duckdb.Error):
        cursor.execute("select * from frame")
    assert frame
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("select PatientName::integer from patients", "cannot be converted"),
        ("select cast(PatientID as date) from series", "cannot be converted"),
        ("select strptime(StudyDescription, '%Y') from series", "value|run"),
        ("select error(PatientName) from patients", "refused"),
        ("select 1 / 0 + PatientID::int from series", "cannot be converted"),
        ("select regexp_extract(PatientID, PatientID || '(') from series", "value|run"),
        (f'select * from series where PatientID = "{PATIENT}"', "name"),
        (f"select * from series where PatientID = '{PATIENT}' and and", "cannot be read"),
        (f"select '{PATIENT}'::integer", "converted"),
        (f'select * from "{PATIENT}"', "no such table"),
        (f"select json('{PATIENT}')", "value|run"),
        (f"select date '{PATIENT}'", "converted"),
        ("select (repeat(PatientID, 3))::uuid from series", "converted"),
    ],
)
def test_no_error_quotes_a_value_of_the_data_or_of_the_query(lake: Lake, query: str, told: str) -> None:
    for fetch in ("rows", "df", "fetchnumpy", "_repr_html_"):
        with pytest.raises(QueryError, match=told) as caught:
            getattr(lake.sql(query), fetch)()
        told_too = "".join(traceback.format_exception(caught.value)).rpartition("QueryError")[2]
        for planted in (*NAME.split("^"), PATIENT, "free text"):
            assert planted not in told_too
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_error_says_where(lake: Lake) -> None:
    with pytest.raises(QueryError, match=r"line 1, column 8\): did you mean Modality"):
        lake.sql("select modaliti from series")
    with pytest.raises(QueryError, match="line 2, column 6"):
        lake.sql("select *\nfrom select")


def test_an_endless_query_can_be_interrupted(lake: Lake) -> None:
    answer = lake.sql(
        "select count(*) from range(100000000000) a, range(1000) b where a.range % 7 = b.range % 5"
    )
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            answer.rows()
        except QueryError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        answer.interrupt()  # again and again: it may not have begun
        time.sleep(0.01)
    thread.join()
    assert "interrupted" in str(caught[0])


def test_what_needs_more_memory_than_allowed_fails_by_itself(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(shown, "_MEMORY_PARTS", pages // (256 << 20))
    monkeypatch.setattr(shown, "_SPILL_BYTES", 1 << 20)
    mirror = Mirror(lake._catalog, tmp_path / "mirror")
    with pytest.raises(QueryError, match="more memory"):
        select(mirror.session(), "select count(*) from (select distinct range from range(60000000))").rows()
    assert select(mirror.session(), "select count(*) from series").rows() == [(2,)]
    mirror.close()
    assert not list((tmp_path / "mirror").glob("spill*"))


def test_nothing_is_spilled_outside_the_lake(lake: Lake) -> None:
    places = lake._mirror.session().execute("select current_setting('temp_directory')")[0][0]
    assert Path(places).parent == lake.path / "mirror"


def test_a_statement_that_is_too_long_or_too_deep_is_refused(lake: Lake) -> None:
    with pytest.raises(QueryError, match="longer"):
        lake.sql("select 1 -- " + "x" * 2_000_000)
    with pytest.raises(QueryError):
        lake.sql("select " + "(" * 3000 + "1" + ")" * 3000)


# ---- what is allowed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select count(*) from main.series", [(2,)]),
        ("from series select sum(instances)", [(4,)]),
        ("with ct as (select * from series where Modality = 'CT') select count(*) from ct", [(2,)]),
        (
            "with recursive t(n) as (select 1 union all select n + 1 from t where n < 2) from t order by n",
            [(1,), (2,)],
        ),
        ("select count(*) from attributes a join series s using (series_id) where path = 'Modality'", [(2,)]),
        ("select v.verdict from volumes v order by all limit 1", [("regular",)]),
        ("select list_transform([1, 2], lambda x: x + 1)", [([2, 3],)]),
        ("select * from range(2) union all select 7 order by all", [(0,), (1,), (7,)]),
        ("select unnest([1, 2])", [(1,), (2,)]),
        ("select count(*) filter (where Modality = 'CT') from series", [(2,)]),
        ("select * from (values (1), (2)) t(a) where a > 1", [(2,)]),
        ("select count(*) from instances i join series using (series_id)", [(4,)]),
        ("select count(*) from SERIES", [(2,)]),
        ("select strftime(strptime('20240229', '%Y%m%d'), '%d.%m.%Y')", [("29.02.2024",)]),
        ("select column_name from (describe series) limit 1", [("series_id",)]),
        ("select current_user", [("duckdb",)]),
        ("select row_number() over (order by series_id) from series", [(1,), (2,)]),
        ("select studies, series, instances from patients order by instances", [(1, 1, 1), (1, 1, 3)]),
    ],
)
def test_selects_of_all_shapes_are_answered(lake: Lake, query: str, rows: list[tuple[object, ...]]) -> None:
    assert lake.sql(query).rows() == rows


def test_an_answer_comes_as_what_is_wanted(lake: Lake) -> None:
    answer = lake.sql("select Modality, instances from series order by instances")
    assert answer.columns == ["Modality", "instances"]
    assert answer.df()["instances"].tolist() == [1, 3]
    assert answer.fetchall() == answer.rows() == list(answer) == [("CT", 1), ("CT", 3)]
    assert answer.relation.filter("instances = 3").fetchall() == [("CT", 3)]
    assert answer.fetchnumpy()["instances"].tolist() == [1, 3]
    assert "<td>3</td>" in answer._repr_html_()
    assert repr(answer) == "<Answer with columns Modality, instances>"


def test_a_table_in_a_notebook_shows_text_and_not_markup(lake: Lake) -> None:
    shown = lake.sql("select '<b>' as \"<i>\"")._repr_html_()
    assert "<b>" not in shown
    assert "<i>" not in shown


def test_polars_and_arrow_are_given_or_named(lake: Lake) -> None:
    answer = lake.sql("select Modality, instances from series order by instances")
    for package, get, column in (
        ("polars", answer.polars, lambda found: found["instances"].to_list()),
        ("pyarrow", answer.arrow, lambda found: found.column("instances").to_pylist()),
    ):
        try:
            __import__(package)
        except ImportError:
            with pytest.raises(QueryError, match=f"pip install {package}"):
                get()
        else:
            assert column(get()) == [1, 3]


@pytest.mark.parametrize(
    "statement",
    [
        "WITH tail_labels AS (FROM tail_labels) SELECT * FROM tail_labels",
        "WITH a AS (FROM tail_labels), tail_labels AS (SELECT 1) FROM a",
        "WITH duckdb_views AS (FROM duckdb_views) SELECT * FROM duckdb_views",
        'WITH "x/state.json" AS (FROM "x/state.json") SELECT * FROM "x/state.json"',
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM tail_series WHERE n < 3) FROM r",
    ],
)
def test_a_name_in_with_opens_no_hidden_table(tmp_path: Path, statement: str) -> None:
    import dicomlake
    from tests.objects import series

    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(1), volumes=False)
        lake.query().set_label("quality", "good")
        assert len(lake.sql("SELECT * FROM labels").rows()) == 1
        with pytest.raises(QueryError):
            lake.sql(statement).rows()
        assert lake.sql("WITH a AS (FROM labels), b AS (FROM a) SELECT count(*) FROM b").rows() == [(1,)]
