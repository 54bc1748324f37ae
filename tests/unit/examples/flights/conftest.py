import pytest

from examples.flights import feed
from storage.features import Frames


@pytest.fixture(scope="session")
def frames() -> Frames:
    return {name: rows.lazy() for name, rows in feed.year().items()}
