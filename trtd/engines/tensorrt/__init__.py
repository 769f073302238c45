"""TensorRT 10 and 11 and TensorRT-RTX: one way to build, one to run. What differs stands in ``flavours``."""
