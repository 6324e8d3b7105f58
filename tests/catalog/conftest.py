"""Both databases for the tests of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests import postgres

_numbers = count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server; skips with the reason where none can be started."""
    pytest.importorskip("psycopg", reason="no driver: pip install 'dicomlake[postgres]'")
    try:
        running = postgres.running()
        server = running.__enter__()
    except postgres.NoServer as error:
        pytest.skip(str(error))
    yield server
    running.__exit__(None, None, None)


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> str:
    """A catalog that is not there yet, on the server."""
    return postgres_server.url(f"lake_{next(_numbers)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest) -> str | None:
    """What `dicomlake.open(…, catalog=…)` is given for each database."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url
