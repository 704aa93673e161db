"""PyTorch's operators on the CPU, as benches/device asks for them: a line of JSON for each
question on standard input, one for each answer on standard output."""

import json
import math
import statistics
import sys
import time

import torch
from torch.nn import functional

OPERATORS = {
    "matmul": torch.matmul,
    "softmax": lambda x: torch.softmax(x, -1),
    "layer norm": lambda x, scale, bias: functional.layer_norm(x, scale.shape, scale, bias, 1e-5),
    "RMS norm": lambda x, scale: functional.rms_norm(x, scale.shape, scale, 1e-5),
    "add": torch.add,
    "relu": torch.relu,
    "exp": torch.exp,
    "gelu": functional.gelu,
    "sum": torch.sum,
    "sum of rows": lambda x: x.sum(1),
    "sum of columns": lambda x: x.sum(0),
    "max of rows": lambda x: x.amax(1),
    "copy": torch.clone,
    "copy, turned": lambda x: x.t().contiguous(),
    "copy, channels first": lambda x: x.permute(0, 3, 1, 2).contiguous(),
    "gather rows": lambda x, indices: torch.index_select(x, 0, indices),
    "attention": functional.scaled_dot_product_attention,
    "attention, causal": lambda q, k, v: functional.scaled_dot_product_attention(
        q, k, v, is_causal=True
    ),
    "convolution": lambda x, weight: functional.conv2d(x, weight, padding=1),
    "cumulative sum": lambda x: x.cumsum(1),
    "sort": lambda x: x.sort(dim=1, stable=True),
    "top-k": lambda x: x.topk(16, 1),
    "histogram": lambda x: torch.histc(x, 64, -0.5, 0.5),
    "distances": torch.cdist,
}


def floats(dims, number, dtype):
    """The values that benches/device/quern.rs makes."""
    values = (torch.arange(math.prod(dims)) * 37 + number * 11) % 101
    return (values.float() / 101 - 0.5).reshape(dims).to(dtype)


class Case:
    """An operator and its inputs."""

    def __init__(self, question):
        torch.set_num_threads(question["threads"])
        self.operator = OPERATORS[question["prepare"]]
        dtype = getattr(torch, question["dtype"])
        shapes = question["inputs"]
        self.inputs = [floats(dims, number, dtype) for number, dims in enumerate(shapes)]
        if question["indices"]:
            self.inputs[-1] = torch.arange(math.prod(shapes[-1])) * 7919 % shapes[0][0]

    def size(self):
        """What the sizes of the first result's elements add up to."""
        result = self.operator(*self.inputs)
        first = result if isinstance(result, torch.Tensor) else result[0]
        return first.double().abs().sum().item()

    def measure(self, period):
        """Seconds that a call takes, the median of those in a period."""
        start, seconds = time.perf_counter(), []
        while not seconds or time.perf_counter() - start < period:
            begin = time.perf_counter()
            self.operator(*self.inputs)
            seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds)


def answer(value):
    print(json.dumps(value), flush=True)


@torch.inference_mode()
def main():
    capability = torch.backends.cpu.get_cpu_capability()
    answer({"version": f"{torch.__version__} ({capability}, MKL, oneDNN)"})
    case = None
    for line in sys.stdin:
        question = json.loads(line)
        if "prepare" in question:
            case = Case(question)
            answer({})
        elif "size" in question:
            answer({"size": case.size()})
        else:
            answer({"seconds": case.measure(question["measure"])})


main()
