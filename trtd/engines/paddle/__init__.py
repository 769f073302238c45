"""Paddle Inference: the reference on the CPU, and Paddle with and without TensorRT on a GPU."""
