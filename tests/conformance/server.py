"""A real server for the tests: started on a free port, with a data folder of its own."""

import http.client
import os
import pathlib
import subprocess
import tempfile
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/conformance/models"
BINARY = pathlib.Path(os.environ.get("QUERN_BINARY", ROOT / "target/debug/quern"))
PREFIX = "listening on http://"


class Server:
    """A running server, with options of its own; `with` ends it. Its log is shown if `log` says so.

    `data` is a folder for what it keeps, which has been prepared; `token` is what it is shown."""

    def __init__(self, *options, log=True, data=None, token=None):
        self.options = options
        self.log = None if log else subprocess.DEVNULL
        self.prepared = data
        self.headers = {"authorization": f"Bearer {token}"} if token else {}

    def __enter__(self):
        self.data = tempfile.TemporaryDirectory()
        folder = (self.prepared or self.data.name) + "/data"
        command = [BINARY, "serve", "--listen", "127.0.0.1:0", "--data", folder]
        command += self.options
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        for line in self.process.stdout:
            if line.startswith(PREFIX):
                self.address = line.removeprefix(PREFIX).strip()
                return self
        raise RuntimeError(f"the server ended with {self.process.wait()} before it listened")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.data.cleanup()

    def put(self, path, body, content_type):
        connection = http.client.HTTPConnection(self.address)
        connection.request("PUT", path, body, {"content-type": content_type, **self.headers})
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status in (200, 201), f"{path}: {response.status} {text}"

    def deploy_model(self, name, onnx):
        self.put(f"/v1/models/{name}", onnx.read_bytes(), "application/octet-stream")

    def deploy_function(self, name, manifest, component):
        boundary = uuid.uuid4().hex
        parts = b""
        for part, content in (("manifest", manifest), ("component", component)):
            head = f'--{boundary}\r\ncontent-disposition: form-data; name="{part}"\r\n\r\n'
            parts += head.encode() + content.read_bytes() + b"\r\n"
        parts += f"--{boundary}--\r\n".encode()
        self.put(f"/v1/functions/{name}", parts, f"multipart/form-data; boundary={boundary}")

    def deploy_all(self):
        """The models and functions that the tests call."""
        self.deploy_model("digits-mlp", ROOT / "functions/digits-mlp/digits-mlp.onnx")
        digits = ROOT / "target/functions/wasm32-wasip2/release/digits.wasm"
        self.deploy_function("digits", ROOT / "functions/digits/quern.toml", digits)
        echo = ROOT / "target/guests/wasm32-wasip2/release/echo.wasm"
        self.deploy_function("types", MODELS / "types.toml", echo)
