"""One server for all tests, with what they call deployed on it."""

import pytest

from server import Server


@pytest.fixture(scope="session")
def server():
    with Server() as server:
        server.deploy_all()
        yield server
