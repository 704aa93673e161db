"""The same model in LitServe: one copy in each worker process, which takes the requests that wait
as a batch. LitServe reads bodies as JSON, so that the binary form of tensors is base64 in it.

    litserve_app.py MODEL PORT WORKERS ROWS
"""

import base64
import sys

import litserve
import numpy as np
import onnxruntime as ort

DTYPES = {"FP32": np.float32, "INT64": np.int64}


class Model(litserve.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            self.path, options, providers=["CPUExecutionProvider"]
        )
        self.output_names = [port.name for port in self.session.get_outputs()]

    def decode_request(self, request):
        return {tensor["name"]: array(tensor) for tensor in request["inputs"]}

    def batch(self, inputs):
        return {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}

    def predict(self, inputs):
        return self.session.run(self.output_names, inputs)

    def unbatch(self, outputs):
        return [[row[None] for row in rows] for rows in zip(*outputs)]

    def encode_response(self, outputs):
        return {
            "outputs": [
                {"name": name, "shape": each.shape, "datatype": "FP32", "data": each.ravel().tolist()}
                for name, each in zip(self.output_names, outputs)
            ]
        }


def array(tensor):
    dtype = DTYPES[tensor["datatype"]]
    if "base64" in tensor:
        flat = np.frombuffer(base64.b64decode(tensor["base64"]), dtype)
    else:
        flat = np.array(tensor["data"], dtype)
    return flat.reshape(tensor["shape"])


if __name__ == "__main__":
    path, port, workers, rows = sys.argv[1], *map(int, sys.argv[2:])
    model = Model(max_batch_size=rows, batch_timeout=0.0, api_path="/infer")
    model.path = path
    server = litserve.LitServer(
        model, accelerator="cpu", workers_per_device=workers, fast_queue=True
    )
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)
