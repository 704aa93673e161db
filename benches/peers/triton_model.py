"""A model in Triton's Python backend, the one that runs on a CPU from PyPI: ONNX Runtime computes
the requests of a batch, which Triton's dynamic batcher has put together, in one run.
"""

import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [port.name for port in self.session.get_inputs()]
        self.outputs = [port.name for port in self.session.get_outputs()]

    def execute(self, requests):
        tensors = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]
            for request in requests
        ]
        if len(requests) == 1:
            (batch,) = tensors
            rows = [len(batch[0])]
        else:
            batch = [np.concatenate(parts) for parts in zip(*tensors)]
            rows = [len(parts[0]) for parts in tensors]
        results = self.session.run(self.outputs, dict(zip(self.inputs, batch)))
        responses, start = [], 0
        for count in rows:
            outputs = [
                triton.Tensor(name, result[start : start + count])
                for name, result in zip(self.outputs, results)
            ]
            responses.append(triton.InferenceResponse(outputs))
            start += count
        return responses
