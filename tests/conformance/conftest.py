"""One server for all tests, with what they call deployed on it, and one that allows shared memory."""

import pytest

from server import Server
from shared import PREFIX


@pytest.fixture(scope="session")
def server():
    with Server() as server:
        server.deploy_all()
        yield server


@pytest.fixture(scope="session")
def sharing_server():
    with Server("--allow-shared-memory", PREFIX) as server:
        server.deploy_all()
        yield server
