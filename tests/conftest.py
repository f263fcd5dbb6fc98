"""The order of the test files: who compiles what decides how long a first run takes."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that compile the kernels of chips and files of fits, which need none of them, take turns.

    Of two processes, each taking the next file, one then compiles while the other fits; else both compile the same.
    """
    files = list(dict.fromkeys(item.path for item in items))
    places = {}
    for fits in (False, True):
        own = [path for path in files if path.name.startswith("test_calibration") == fits]
        places.update({path: (turn, fits) for turn, path in enumerate(own)})
    items.sort(key=lambda item: places[item.path])
