import os
import subprocess
import sys
from contextlib import suppress
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from governance.access import AccessDeniedError, roles
from resources.lakehouse.tables import Lakehouse
from resources.query.sandbox import Limits, query
from resources.query.select import select, views_of
from resources.query.statement import QueryError, allowed_functions, shape_of
from resources.settings import PROJECT

DAY = date(2026, 11, 9)
SECRET = "only-for-other-eyes"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Rows of two tenants; whatever an analyst of acme may not see holds SECRET."""
    made = Lakehouse(uri=str(tmp_path_factory.mktemp("lake")))
    tenants = {"tenant_id": ["acme", "other"], "event_date": DAY}

    def put(table: str, **columns: list) -> None:
        made.replace_days(table, [str(DAY)], pl.DataFrame(tenants | columns))

    put("gold/psychosocial_daily", author_id=[SECRET, SECRET], other=[SECRET, SECRET], messages=[1, 2])
    put("gold/contextual_signals", url=["https://a.example/1", SECRET], risk=["low", "high"])
    put("silver/message_signals", text=[SECRET, SECRET], sentiment=["positive", SECRET])
    put("silver/messages", text=[SECRET, SECRET])
    put("silver/decisions", label=[SECRET, SECRET])
    put("bronze/user_profiles", handle=[SECRET, SECRET])
    made.replace_all("operations/model_versions", pl.DataFrame({"task": ["irony"], "note": [SECRET]}))
    return made


def ask(lake: Lakehouse, sql: str, role: str = "analyst", tenant: str | None = "acme") -> pl.DataFrame:
    """Ask in this process, as the one with limits does."""
    views = views_of(lake, sql, as_role=role, tenant=tenant)
    return select(lake, sql, views, max_rows=1_000, memory_bytes=1 << 30)


def test_a_role_sees_its_tenants_rows_and_the_columns_of_its_classes(lake):
    found = ask(lake, "SELECT * FROM gold.psychosocial_daily")
    assert {*found.columns} == {"tenant_id", "event_date", "messages"}
    assert found["messages"].to_list() == [1]
    assert ask(lake, "SELECT sentiment FROM silver.message_signals").rows() == [("positive",)]


def test_rows_can_be_joined_counted_and_shown_as_frames(lake):
    found = ask(
        lake,
        "SELECT s.risk, sum(p.messages)::INT AS said FROM gold.psychosocial_daily p "
        "JOIN gold.contextual_signals s USING (tenant_id) GROUP BY ALL",
    )
    assert found.to_dicts() == [{"risk": "low", "said": 1}]


def test_a_role_of_all_tenants_sees_all_rows_or_those_of_the_tenant_it_asks_for(lake):
    sql = "SELECT tenant_id FROM gold.psychosocial_daily ORDER BY ALL"
    assert ask(lake, sql, "engineer", None)["tenant_id"].to_list() == ["acme", "other"]
    assert ask(lake, sql, "engineer", "other")["tenant_id"].to_list() == ["other"]
    assert ask(lake, "SELECT task FROM operations.model_versions", "engineer", None).height == 1
    with pytest.raises(AccessDeniedError):
        ask(lake, "SELECT task FROM operations.model_versions", "engineer", "other")


def test_a_role_of_all_tenants_still_misses_the_columns_hidden_from_it(lake):
    assert "text" in ask(lake, "FROM silver.messages", "privacy", None).columns
    assert SECRET in str(ask(lake, "FROM silver.decisions", "ml", None).rows())
    with pytest.raises(AccessDeniedError):
        ask(lake, "FROM bronze.user_profiles", "ml", None)


@pytest.mark.parametrize(
    "table", ["silver.messages", "silver.decisions", "bronze.user_profiles", "operations.model_versions"]
)
def test_a_table_that_a_role_may_not_read_is_denied_by_name(lake, table):
    with pytest.raises(AccessDeniedError, match=f"role analyst may not read {table}"):
        ask(lake, f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    "tenant", ["acme' OR '1'='1", 'acme" OR 1=1 --', "x'; DROP VIEW gold.psychosocial_daily; --", "%", "ACME", "acme "]
)
def test_a_tenant_is_a_value_and_never_a_part_of_the_query(lake, tenant):
    assert ask(lake, "SELECT * FROM gold.psychosocial_daily", tenant=tenant).is_empty()


@pytest.mark.parametrize("tenant", [None, ""])
def test_a_role_of_one_tenant_must_name_it(lake, tenant):
    for name, role in roles().items():
        if not role.all_tenants:
            with pytest.raises(AccessDeniedError, match="one tenant"):
                ask(lake, "SELECT 1", name, tenant)


@pytest.mark.parametrize("name", ["root", "", "Engineer", "analyst'; --"])
def test_an_unknown_role_is_denied_and_told_which_there_are(lake, name):
    with pytest.raises(AccessDeniedError, match="engineer, analyst"):
        ask(lake, "SELECT 1", name)


HIDDEN_COLUMNS = """
SELECT author_id FROM gold.psychosocial_daily
SELECT p.author_id FROM gold.psychosocial_daily p
SELECT messages FROM gold.psychosocial_daily WHERE author_id LIKE 'o%'
SELECT messages FROM gold.psychosocial_daily ORDER BY author_id
SELECT count(DISTINCT author_id) FROM gold.psychosocial_daily
SELECT author_id FROM gold_psychosocial_daily
SELECT author_id FROM main.gold_psychosocial_daily
SELECT author_id FROM temp.main.gold_psychosocial_daily
SELECT author_id FROM memory.gold.psychosocial_daily
SELECT author_id FROM query_table('gold_psychosocial_daily')
SELECT author_id FROM query('FROM gold.psychosocial_daily')
"""


@pytest.mark.parametrize("sql", HIDDEN_COLUMNS.strip().splitlines())
def test_a_hidden_column_cannot_be_named_in_any_way(lake, sql):
    with pytest.raises(QueryError) as caught:
        ask(lake, sql)
    assert SECRET not in str(caught.value)


WHOLE_TABLES = """
FROM gold.psychosocial_daily
FROM gold_psychosocial_daily
FROM main.gold_psychosocial_daily
FROM temp.main.gold_psychosocial_daily
FROM query_table('gold_psychosocial_daily')
FROM query('FROM gold_contextual_signals')
SELECT to_json(p) FROM gold_psychosocial_daily p
SELECT COLUMNS(*) FROM gold_psychosocial_daily
SUMMARIZE gold_psychosocial_daily
SELECT * FROM gold.psychosocial_daily WHERE true OR tenant_id = 'other'
SELECT * FROM gold.contextual_signals UNION BY NAME FROM gold_psychosocial_daily
CREATE OR REPLACE VIEW gold.psychosocial_daily AS FROM gold_psychosocial_daily; FROM gold.psychosocial_daily
DROP VIEW gold.contextual_signals; FROM gold_contextual_signals
PIVOT gold.psychosocial_daily ON event_date USING sum(messages)
SHOW ALL TABLES
FROM duckdb_views()
FROM duckdb_columns()
FROM duckdb_tables()
FROM duckdb_schemas()
FROM duckdb_databases()
FROM duckdb_settings()
FROM information_schema.columns
FROM information_schema.tables
FROM pragma_show('gold_psychosocial_daily')
EXPLAIN ANALYZE FROM gold_psychosocial_daily
"""


@pytest.mark.parametrize("sql", WHOLE_TABLES.strip().splitlines())
def test_what_can_be_seen_never_holds_what_is_hidden(lake, sql):
    shown = pl.DataFrame()
    with suppress(QueryError):
        shown = ask(lake, sql)
    assert SECRET not in str(shown.to_dicts())
    assert "author_id" not in str(shown.to_dicts())
    assert not {"author_id", "text"} & {*shown.columns}


def test_names_of_the_program_that_asks_are_no_tables(lake):
    rows = pl.DataFrame({"a": [SECRET]})
    for name in ("rows", "lake", "lakehouse", "reader", "seen", "pl", "duckdb"):
        with pytest.raises(QueryError):
            ask(lake, f"FROM {name}")
    assert rows.height == 1


FORBIDDEN = """
SELECT * FROM read_text('{file}')
SELECT * FROM read_blob('{file}')
SELECT * FROM read_csv('{file}')
SELECT * FROM read_json('{file}')
SELECT * FROM sniff_csv('{file}')
FROM '{file}'
SELECT * FROM glob('{folder}/*')
SELECT * FROM read_parquet('{lake}/silver/messages/**/*.parquet')
SELECT * FROM parquet_metadata('{lake}/silver/messages/*/*.parquet')
FROM '{lake}/silver/messages/*/*.parquet'
SELECT * FROM delta_scan('{lake}/silver/messages')
SELECT * FROM sqlite_scan('{file}', 'x')
COPY (SELECT 1) TO '{folder}/out.csv'
COPY (SELECT 1) TO '.tmp/out.csv'
SELECT * FROM read_text('.tmp/left.txt')
SELECT * FROM glob('.tmp/*')
EXPORT DATABASE '{folder}/out'
IMPORT DATABASE '{folder}'
ATTACH '{folder}/out.db'
ATTACH '.tmp/out.db'
ATTACH '{file}' AS x (TYPE sqlite)
INSTALL httpfs
LOAD httpfs
LOAD '{file}'
SELECT * FROM 'https://example.org/a.csv'
SET enable_external_access = true
RESET enable_external_access
SET lock_configuration = false
SET temp_directory = '{folder}'
SET allowed_directories = ['{folder}']
PRAGMA temp_directory = '{folder}'
SELECT 1; SET enable_external_access = true; SELECT * FROM read_text('{file}')
SELECT 1; SELECT * FROM read_text('{file}')
CREATE MACRO m() AS TABLE FROM read_text('{file}'); FROM m()
CREATE TABLE t AS FROM read_text('{file}')
PREPARE p AS FROM read_text('{file}')
CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')
FROM duckdb_secrets()
SELECT getenv('HOME')
INSERT INTO gold.psychosocial_daily BY NAME SELECT 1 AS messages
DELETE FROM gold.psychosocial_daily
"""


@pytest.mark.parametrize("sql", FORBIDDEN.strip().splitlines())
def test_files_settings_and_other_databases_are_out_of_reach(lake, sql, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".tmp").mkdir()
    for name in ("file.csv", ".tmp/left.txt"):
        (tmp_path / name).write_text(f"{SECRET}\n{SECRET}\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QueryError) as caught:
        ask(lake, sql.format(file=tmp_path / "file.csv", folder=tmp_path, lake=lake.uri))
    assert SECRET not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


TIMES = """
SELECT count(*)::VARCHAR AS said FROM gold.rtb_hourly WHERE seen_at >= timestamp '2026-11-24 05:00:00'
SELECT seen_at::VARCHAR AS said FROM gold.rtb_hourly
SELECT seen_at::DATE::VARCHAR AS said FROM gold.rtb_hourly
SELECT hour(seen_at)::VARCHAR AS said FROM gold.rtb_hourly
SELECT date_trunc('day', seen_at)::VARCHAR AS said FROM gold.rtb_hourly
SELECT (timestamp '2026-11-24 05:00:00')::TIMESTAMPTZ::VARCHAR AS said FROM gold.rtb_hourly
"""
ASKING = """
import sys
from datetime import UTC, datetime
import polars as pl
from resources.lakehouse.tables import Lakehouse
from resources.query.select import select, views_of
lake = Lakehouse(uri=sys.argv[1])
at = datetime(2026, 11, 24, 23, 10, tzinfo=UTC)
rows = pl.DataFrame({"seen_at": [at], "event_date": [at.date()], "tenant_id": "t"})
lake.replace_days("gold/rtb_hourly", ["2026-11-24"], rows)
def ask(sql):
    views = views_of(lake, sql, as_role="engineer", tenant=None)
    return select(lake, sql, views, max_rows=10, memory_bytes=1 << 30).to_series().to_list()
for sql in (*sys.argv[2:], "SELECT seen_at FROM gold.rtb_hourly"):
    print(ask(sql))
"""


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/Los_Angeles"])
def test_times_are_those_of_utc_whatever_the_zone_of_the_machine_is(tmp_path, zone):
    command = [sys.executable, "-c", ASKING, str(tmp_path), *TIMES.strip().splitlines()]
    ran = subprocess.run(
        command, cwd=PROJECT, env=os.environ | {"TZ": zone}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    midnight, began = "2026-11-24 00:00:00+00", "2026-11-24 05:00:00+00"
    assert said[:-1] == [str([one]) for one in ("1", "2026-11-24 23:10:00+00", "2026-11-24", "23", midnight, began)]
    assert "datetime.datetime(2026, 11, 24, 23, 10" in said[-1]
    assert "UTC" in said[-1]


@pytest.mark.parametrize("sql", ["SET TimeZone = 'Asia/Kolkata'", "RESET TimeZone"])
def test_the_zone_cannot_be_changed(lake, sql):
    with pytest.raises(QueryError):
        ask(lake, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " ; ",
        "-- nothing",
        "SELEC 1",
        "SELECT nothing FROM gold.psychosocial_daily",
        "SELECT *\nFROM gold.nothing_at_all",
        "SELECT 'a'::INT",
        "SELECT ?",
        "SELECT sum(tenant_id) FROM gold.psychosocial_daily",
        "SELECT INTERVAL 1 DAY",
        "SELECT error('one\ntwo')",
    ],
)
def test_a_wrong_query_is_one_line_of_what_is_wrong(lake, sql):
    with pytest.raises(QueryError) as caught:
        ask(lake, sql)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_lakehouse_can_be_asked(tmp_path):
    empty = Lakehouse(uri=str(Path(tmp_path) / "none"))
    assert ask(empty, "SELECT 1 AS one", "engineer", None).rows() == [(1,)]
    with pytest.raises(QueryError, match=r"gold\.psychosocial_daily|psychosocial_daily"):
        ask(empty, "FROM gold.psychosocial_daily", "engineer", None)


TOO_MUCH = {
    "SELECT sum(i) FROM range(100000000000) t(i)": ({"seconds": 2.0}, "over 2 seconds"),
    "SELECT sum(i + 1) FROM range(100000000000) t(i)": ({"cpu_seconds": 2}, "memory or processor time"),
    "SELECT list(i) FROM range(100000000) t(i)": ({"memory_bytes": 64 << 20}, "Out of Memory"),
    "SELECT * FROM range(2000) t(i)": ({"rows": 1_000}, "over 1,000 rows"),
}


@pytest.mark.parametrize("sql", TOO_MUCH)
def test_what_takes_more_than_its_limits_is_stopped(lake, sql):
    limits, says = TOO_MUCH[sql]
    with pytest.raises(QueryError, match=says):
        query(lake, sql, as_role="engineer", tenant=None, limits=Limits(**limits))


def test_a_query_with_limits_answers_as_one_without(lake, monkeypatch):
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://u:secret@h/db")
    sql = "SELECT messages, [1, 2] AS l, {'a': event_date} AS s FROM gold.psychosocial_daily"
    assert query(lake, sql, as_role="analyst", tenant="acme").equals(ask(lake, sql))
    assert query(lake, f"{sql} WHERE false", as_role="analyst", tenant="acme").equals(ask(lake, f"{sql} WHERE false"))
    with pytest.raises(AccessDeniedError, match=r"analyst may not read silver\.messages"):
        query(lake, "FROM silver.messages", as_role="analyst", tenant="acme")


REFUSED = """
SELECT getenv('HOME')
SELECT system.main.getenv('HOME')
SELECT "getenv"('HOME')
SELECT current_setting('temp_directory')
SELECT getvariable('x')
SELECT * FROM gold.contextual_signals ORDER BY getenv('HOME')
SELECT sum(1 ORDER BY getenv('HOME')) FROM gold.contextual_signals
SELECT count(*) OVER (PARTITION BY getenv('HOME')) FROM gold.contextual_signals
SELECT 1 LIMIT getenv('HOME')
SELECT * REPLACE (getenv('HOME') AS risk) FROM gold.contextual_signals
SELECT list_transform([1], x -> getenv('HOME'))
SELECT (SELECT getenv('HOME'))
SELECT CASE WHEN true THEN getenv('HOME') END
SELECT * FROM gold.contextual_signals JOIN gold.psychosocial_daily ON getenv('HOME') IS NULL
WITH x AS (SELECT getenv('HOME')) FROM x
WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT getenv('HOME') FROM x) FROM x
VALUES (getenv('HOME'))
SELECT * FROM gold.contextual_signals, (DESCRIBE FROM duckdb_settings())
SELECT * FROM gold.contextual_signals JOIN (SHOW TABLES) ON true
SELECT * FROM pg_catalog.pg_settings
SELECT write_log('x')
SELECT txid_current()
SELECT nextval('s')
SELECT json_execute_serialized_sql('{}')
FROM json_execute_serialized_sql('{}')
FROM enable_logging()
FROM duckdb_logs()
FROM repeat_row(1, num_rows = 1000000000)
FROM test_all_types()
SELECT version()
SELECT $1
BEGIN
CALL duckdb_settings()
USE gold
CHECKPOINT
VACUUM
DEALLOCATE x
"""


def test_what_a_table_has_can_be_described_and_pivoted(lake):
    assert "author_id" not in ask(lake, "DESCRIBE gold.psychosocial_daily")["column_name"].to_list()
    assert ask(lake, "SUMMARIZE gold.psychosocial_daily").height == 3
    pivot = "FROM gold.psychosocial_daily PIVOT (sum(messages) FOR tenant_id IN ('acme', 'other'))"
    assert ask(lake, f"SELECT acme::INT AS a, other FROM ({pivot})").rows() == [(1, None)]


@pytest.mark.parametrize("sql", REFUSED.strip().splitlines())
def test_what_is_no_select_over_tables_and_harmless_functions_is_refused_before_it_runs(lake, sql):
    with pytest.raises(QueryError):
        views_of(lake, sql, as_role="engineer", tenant=None)


def test_every_function_that_may_be_called_is_one_that_there_is():
    with duckdb.connect() as connection:
        known = {
            name for (name,) in connection.execute("SELECT lower(function_name) FROM duckdb_functions()").fetchall()
        }
    # Those of the grammar are no functions of the catalog.
    assert allowed_functions() - known <= {"coalesce", "ifnull", "width_bucket"}


SHAPES = {
    "SELECT risk FROM gold.contextual_signals WHERE url = 'bob' LIMIT 5": (
        "SELECT risk FROM gold . contextual_signals WHERE url = ? LIMIT ?"
    ),
    "SELECT count(*) AS bob, bob.author_id FROM silver.messages bob -- bob": (
        "SELECT count ( * ) AS ? , ? . author_id FROM silver . messages ?"
    ),
    "SELECT $$bob$$, \"bob\", e'bob', x'b0b', 1.5e3::INT /* bob */, bob": "SELECT ? , ? , ? , ? , ? :: INT , ?",
    "SELECT 'bøb', bøb": "SELECT ? , ?",
    "SELEC bob": "? ?",
    "SELECT 'bob": "SELECT",
    "SELECT \ud800bob": "SELECT ? ?",
    "": "",
}


@pytest.mark.parametrize("sql", SHAPES)
def test_the_shape_of_a_query_has_the_platforms_names_and_nothing_of_a_person(sql):
    assert shape_of(sql) == SHAPES[sql]
