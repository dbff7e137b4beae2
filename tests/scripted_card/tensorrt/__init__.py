"""The fake of TensorRT, under its name."""

from tests.runtimes.fake_tensorrt import module

globals().update(vars(module("tensorrt")))
