"""One browser for all tests of pages; they skip where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import chromium
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is in this folder, with the reason, on a machine without a browser."""
    for item in items:
        if chromium.FOUND is None and item.path.parent.name == "browser":
            item.add_marker(pytest.mark.skip(reason=chromium.WHY_NOT))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """Give a browser that knows nobody."""
    started = chromium.Browser(tmp_path_factory.mktemp("browser") / "profile")
    try:
        yield started
    finally:
        started.close()
