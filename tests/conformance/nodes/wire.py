"""Deploys models and calls them over HTTP, with tensors in binary; knows nothing of test cases."""

import http.client
import json
import socket
import threading

import ml_dtypes
import numpy as np

TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
}
NAMES = {np.dtype(dtype): name for name, dtype in TYPES.items()}
BOUNDARY = "part-of-a-model"
# Longer than any case takes, and than the server allows a call.
SECONDS = 120


class Refused(Exception):
    """An answer that is an error, with its code and text."""

    def __init__(self, status, code, text):
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


class Client:
    """Connections to a server, one for each thread."""

    def __init__(self, address):
        self.address = address
        self.thread = threading.local()

    def ask(self, method, path, body=b"", headers=None):
        """The headers and body of the answer."""
        connection = getattr(self.thread, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.thread.connection = connection
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        if response.status >= 400:
            told = json.loads(content)
            text = told.get("error") or told.get("detail")
            raise Refused(response.status, response.headers["quern-error"], text)
        return response.headers, content

    def engines(self):
        """The engines that the server has, with their versions."""
        devices = json.loads(self.ask("GET", "/v1/devices")[1])["devices"]
        engines = devices[0]["engines"]
        return {one["engine"]: one["version"] for one in engines if one["version"]}

    def deploy(self, name, onnx, manifest):
        """The answer to the deployment."""
        parts = b""
        for part, content in (("manifest", manifest.encode()), ("model", onnx)):
            head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{part}"\r\n\r\n'
            parts += head.encode() + content + b"\r\n"
        parts += f"--{BOUNDARY}--\r\n".encode()
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        return json.loads(self.ask("PUT", f"/v1/models/{name}", parts, headers)[1])

    def delete(self, name):
        self.ask("DELETE", f"/v1/models/{name}")

    def infer(self, name, inputs):
        """The outputs of a call, in order."""
        described, data = [], b""
        for tensor, array in inputs.items():
            dtype, content = encoded(array)
            size = {"binary_data_size": len(content)}
            described.append(
                {"name": tensor, "shape": array.shape, "datatype": dtype, "parameters": size}
            )
            data += content
        head = {"inputs": described, "parameters": {"binary_data_output": True}}
        head = json.dumps(head).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        headers, body = self.ask("POST", f"/v2/models/{name}/infer", head + data, length)
        start = int(headers["Inference-Header-Content-Length"])
        outputs = []
        for output in json.loads(body[:start])["outputs"]:
            end = start + output["parameters"]["binary_data_size"]
            outputs.append(decoded(output["datatype"], output["shape"], body[start:end]))
            start = end
        assert start == len(body), f"{len(body) - start} bytes belong to no output"
        return outputs


def encoded(array):
    """The datatype and bytes of a tensor."""
    if array.dtype == object or array.dtype.kind == "U":
        texts = [text if isinstance(text, bytes) else text.encode() for text in array.flat]
        return "BYTES", b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return NAMES[array.dtype], array.tobytes()


def decoded(dtype, shape, data):
    if dtype != "BYTES":
        return np.frombuffer(data, TYPES[dtype]).reshape(shape)
    texts = []
    while data:
        length = int.from_bytes(data[:4], "little")
        texts.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return np.array(texts, np.object_).reshape(shape)
