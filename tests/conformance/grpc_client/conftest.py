"""The official gRPC client."""

import pytest
import tritonclient.grpc as triton


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.address) as client:
        yield client
