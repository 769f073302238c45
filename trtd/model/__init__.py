"""Source models: find them (``source``), read their facts without running them (``inspect``), make them ONNX
(``convert``: PIR normalization, paddle2onnx, repairs) and simplify the graph (``simplify``). Models that Paddle has
quantized are cut open first (``convert_open``); ``paddle_ptq`` makes them.

Only ``convert``, ``simplify`` and the ``onnx_*`` modules import onnx; Paddle runs in ``paddle_process`` alone.
"""
