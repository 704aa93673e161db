"""The test cases that ship inside the `onnx` package: small models, inputs, and what comes out."""

import dataclasses
import pathlib
import re

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

# Those of single operators, and those that come in the same form beside them.
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")

# Cases whose outputs no engine can be expected to give, by the beginning of their names.
UNCHECKED = {
    "test_bernoulli": "its outputs are random",
    "test_training_dropout": "its outputs are random",
}
# Those beside the rule are computed with fixed numbers, or drop nothing.
CHECKED = re.compile("expanded|zero_ratio")


@dataclasses.dataclass
class Tolerance:
    """How far outputs may be off: of each element, and of the largest one of its tensor."""

    each: float
    largest: float
    reason: str


ROUNDED = Tolerance(1e-3, 1e-6, "sums cancel out to zero, but for rounding")
# Where the cases' own tolerance, a thousandth of each element, is less than rounding.
TOLERANCES = {
    "test_dft": ROUNDED,
    "test_stft": ROUNDED,
    "test_gru_seq_length": Tolerance(1e-3, 3e-6, "gates are approximated"),
    "test_causal_conv_with_state_silu_fp16": Tolerance(2**-9, 0.0, "FP16 is rounded to 2**-10"),
}


@dataclasses.dataclass
class Case:
    """One model with the inputs that it is given, and the outputs that are right."""

    name: str
    folder: pathlib.Path
    rtol: float
    atol: float

    @property
    def unchecked(self):
        """Why its outputs can't be compared, if so."""
        return None if CHECKED.search(self.name) else begins(self.name, UNCHECKED)

    @property
    def tolerance(self):
        """The rules beside its own that hold for it, if any do."""
        return begins(self.name, TOLERANCES)

    def file(self):
        """The model as it is uploaded."""
        return (self.folder / "model.onnx").read_bytes()

    def datasets(self):
        """Each set of inputs, by name, with its outputs, in order."""
        graph = onnx.load(self.folder / "model.onnx").graph
        weights = {weight.name for weight in graph.initializer}
        names = [put.name for put in graph.input if put.name not in weights]
        for folder in sorted(self.folder.glob("test_data_set_*")):
            inputs = tensors(folder, "input")
            yield dict(zip(names, inputs, strict=True)), tensors(folder, "output")


def begins(name, table):
    return next((value for start, value in table.items() if name.startswith(start)), None)


def tensors(folder, side):
    """Only called for models that take and give nothing but tensors."""
    files = sorted(folder.glob(f"{side}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]


def every_case():
    cases = [case for kind in KINDS for case in load_model_tests(kind=kind)]
    made = [Case(case.name, pathlib.Path(case.model_dir), case.rtol, case.atol) for case in cases]
    return sorted(made, key=lambda case: case.name)


def opened(case):
    """The case's model with a first dimension that may vary in all inputs and outputs, so that it
    looks as if it counted rows; none where one of them has no dimensions."""
    model = onnx.load(case.folder / "model.onnx")
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [put for put in model.graph.input if put.name not in weights]
    for put in [*inputs, *model.graph.output]:
        dims = put.type.tensor_type.shape.dim
        if not dims:
            return None
        dims[0].dim_param = "rows"
    return model.SerializeToString()


def rows(array):
    return [np.ascontiguousarray(array[row : row + 1]) for row in range(array.shape[0])]
