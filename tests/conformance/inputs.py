"""What is sent over HTTP and gRPC alike: an image, and elements of every datatype."""

import ml_dtypes
import numpy as np

IMAGE = (np.arange(2 * 64, dtype=np.float32) % 17).reshape(2, 64)

ELEMENTS = {
    "bool": np.array([True, False]),
    "uint8": np.array([0, 255], np.uint8),
    "uint16": np.array([0, 65535], np.uint16),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-(2**15), 2**15 - 1], np.int16),
    "int32": np.array([-(2**31), 2**31 - 1], np.int32),
    "int64": np.array([-(2**63), 2**63 - 1], np.int64),
    "fp16": np.array([1.5, -0.25], np.float16),
    "bf16": np.array([1.5, -0.25], ml_dtypes.bfloat16),
    "fp32": np.array([1.5, -0.1], np.float32),
    "fp64": np.array([1.5, -0.1], np.float64),
    "bytes": np.array([b"grain", "é".encode()], np.object_),
}
