"""The server does what its own description says, as schemathesis tries it."""

import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile

import openapi_spec_validator
import pytest

from server import BINARY, Server

HERE = pathlib.Path(__file__).parent


@pytest.fixture(autouse=True)
def secrets_key(monkeypatch):
    """Without one, a server has no secrets."""
    monkeypatch.setenv("QUERN_SECRETS_KEY", secrets.token_hex(32))


@pytest.fixture
def open_server():
    """A server of its own: what is deployed on it may be gone afterwards."""
    with Server() as server:
        server.deploy_all()
        yield server


@pytest.fixture
def guarded():
    """A server that asks for tokens, and its admin's."""
    with tempfile.TemporaryDirectory() as folder:
        with Server(data=folder):
            """Makes the folder: there is none to make a token in before."""
        create = [BINARY, "--json", "token", "create", "--role", "admin", "--data", folder + "/data"]
        token = json.loads(subprocess.run(create, check=True, capture_output=True).stdout)
        with Server("--authenticate", data=folder, token=token["secret"]) as server:
            server.deploy_all()
            yield server, token


def attack(server, *options, **environment):
    command = [pathlib.Path(sys.executable).with_name("schemathesis"), "--config-file"]
    command += [HERE / "schemathesis.toml", "run", f"http://{server.address}/openapi.json"]
    environment = {**os.environ, "PYTHONPATH": str(HERE), **environment}
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [*command, "--no-color", *options],
            cwd=folder, env=environment, capture_output=True, text=True,
        )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("options", [[], ["--authenticate"]])
def test_the_description_is_openapi(options):
    printed = subprocess.run([BINARY, "openapi", *options], check=True, capture_output=True).stdout
    openapi_spec_validator.validate(json.loads(printed))


def test_a_server_without_tokens_does_what_it_says(open_server):
    attack(open_server)


def test_a_server_with_tokens_does_what_it_says(guarded):
    server, token = guarded
    header = f"Authorization: Bearer {token['secret']}"
    attack(server, "--header", header, QUERN_TOKEN_ID=token["id"])
