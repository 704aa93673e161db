"""Writes the larger benchmark models as ONNX files into a folder: `models.py FOLDER`.

Their shapes are those of the real ones, their weights are random from a fixed seed, scaled so that
activations neither vanish nor explode. All take a dynamic number of rows.

    lenet.onnx     image FP32 [rows, 1, 28, 28]   -> scores FP32 [rows, 10]
    resnet18.onnx  image FP32 [rows, 3, 224, 224] -> scores FP32 [rows, 1000]
    minilm.onnx    tokens, mask INT64 [rows, 128] -> embedding FP32 [rows, 384]
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
VOCABULARY, LENGTH, WIDTH, HEADS, INNER, LAYERS = 30522, 128, 384, 12, 1536, 6


class Graph:
    """Nodes and weights that are added in order; each method gives the name of what it computes."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def node(self, operator, *inputs, **attributes):
        name = f"{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def constant(self, array):
        name = f"constant{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape, fan_in, gain=1.0):
        scale = gain / np.sqrt(fan_in)
        return self.constant(self.random.normal(0, scale, shape).astype(np.float32))

    def convolution(self, x, inputs, outputs, size, stride=1, padding=0, gain=np.sqrt(2)):
        weights = self.weights(outputs, inputs, size, size, fan_in=inputs * size**2, gain=gain)
        bias = self.weights(outputs, fan_in=100)
        return self.node("Conv", x, weights, bias, kernel_shape=[size] * 2, strides=[stride] * 2,
                         pads=[padding] * 4)

    def dense(self, x, inputs, outputs):
        weights = self.weights(inputs, outputs, fan_in=inputs)
        return self.node("Add", self.node("MatMul", x, weights), self.weights(outputs, fan_in=100))

    def normalized(self, x):
        scale, bias = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
        return self.node("LayerNormalization", x, self.constant(scale), self.constant(bias))

    def write(self, path, inputs, output, last):
        self.nodes.append(helper.make_node("Identity", [last], [output[0]], "output"))
        port = lambda name, kind, *shape: helper.make_tensor_value_info(name, kind, ["rows", *shape])
        graph = helper.make_graph(self.nodes, path.stem, [port(*each) for each in inputs],
                                  [port(*output)], self.initializers)
        model = helper.make_model(graph, ir_version=8, producer_name="quern",
                                  opset_imports=[helper.make_opsetid("", OPSET)])
        onnx.checker.check_model(model)
        onnx.save(model, path)


def lenet(path):
    graph = Graph(seed=1)
    pool = lambda x: graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = pool(graph.node("Relu", graph.convolution("image", 1, 6, 5, padding=2)))
    x = pool(graph.node("Relu", graph.convolution(x, 6, 16, 5)))
    x = graph.node("Flatten", x)
    x = graph.node("Relu", graph.dense(x, 400, 120))
    x = graph.node("Relu", graph.dense(x, 120, 84))
    graph.write(path, [("image", TensorProto.FLOAT, 1, 28, 28)],
                ("scores", TensorProto.FLOAT, 10), graph.dense(x, 84, 10))


def resnet18(path):
    graph = Graph(seed=2)

    def block(x, inputs, outputs, stride):
        y = graph.node("Relu", graph.convolution(x, inputs, outputs, 3, stride, 1))
        # Small, so that sums along the residual path stay small.
        y = graph.convolution(y, outputs, outputs, 3, 1, 1, gain=0.5)
        if stride != 1:
            x = graph.convolution(x, inputs, outputs, 1, stride, gain=1.0)
        return graph.node("Relu", graph.node("Add", x, y))

    x = graph.node("Relu", graph.convolution("image", 3, 64, 7, 2, 3))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for inputs, outputs, stride in [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]:
        x = block(block(x, inputs, outputs, stride), outputs, outputs, 1)
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    graph.write(path, [("image", TensorProto.FLOAT, 3, 224, 224)],
                ("scores", TensorProto.FLOAT, 1000), graph.dense(x, 512, 1000))


def minilm(path):
    graph = Graph(seed=3)
    split = graph.constant(np.array([0, 0, HEADS, WIDTH // HEADS]))
    join = graph.constant(np.array([0, 0, WIDTH]))
    half, one, root = (graph.constant(np.float32(value)) for value in (0.5, 1, np.sqrt(2)))
    last_axis = graph.constant(np.array([2]))
    mask = graph.node("Cast", "mask", to=TensorProto.FLOAT)
    # 0 where there is a token, very negative where there is none.
    blocked = graph.node("Mul", graph.node("Sub", mask, one), graph.constant(np.float32(1e4)))
    blocked = graph.node("Unsqueeze", blocked, graph.constant(np.array([1, 2])))

    def attention(x):
        heads = lambda order: graph.node(
            "Transpose", graph.node("Reshape", graph.dense(x, WIDTH, WIDTH), split), perm=order)
        query, key, value = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
        scale = graph.constant(np.float32(1 / np.sqrt(WIDTH // HEADS)))
        scores = graph.node("Mul", graph.node("MatMul", query, key), scale)
        shares = graph.node("Softmax", graph.node("Add", scores, blocked), axis=-1)
        mixed = graph.node("Transpose", graph.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        return graph.dense(graph.node("Reshape", mixed, join), WIDTH, WIDTH)

    def gelu(x):
        error = graph.node("Erf", graph.node("Div", x, root))
        return graph.node("Mul", graph.node("Mul", x, graph.node("Add", error, one)), half)

    words = graph.node("Gather", graph.weights(VOCABULARY, WIDTH, fan_in=1), "tokens")
    x = graph.normalized(graph.node("Add", words, graph.weights(LENGTH, WIDTH, fan_in=1)))
    for _ in range(LAYERS):
        x = graph.normalized(graph.node("Add", x, attention(x)))
        inner = gelu(graph.dense(x, WIDTH, INNER))
        x = graph.normalized(graph.node("Add", x, graph.dense(inner, INNER, WIDTH)))
    # The mean over the tokens that are there.
    weighed = graph.node("Mul", x, graph.node("Unsqueeze", mask, last_axis))
    sums = graph.node("ReduceSum", weighed, graph.constant(np.array([1])), keepdims=0)
    counts = graph.node("ReduceSum", mask, graph.constant(np.array([1])), keepdims=1)
    inputs = [(name, TensorProto.INT64, LENGTH) for name in ("tokens", "mask")]
    graph.write(path, inputs, ("embedding", TensorProto.FLOAT, WIDTH),
                graph.node("Div", sums, counts))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    lenet(folder / "lenet.onnx")
    resnet18(folder / "resnet18.onnx")
    minilm(folder / "minilm.onnx")
