"""The official HTTP client."""

import pytest
import tritonclient.http as triton


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.address, concurrency=4) as client:
        yield client
