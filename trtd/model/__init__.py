"""Source models: find them (``source``), read their facts without running them (``inspect``), make them ONNX
(``convert``: PIR normalization, paddle2onnx, repairs) and simplify the graph (``simplify``).

Only ``convert``, ``simplify`` and the ``onnx_*`` modules import onnx; Paddle runs in ``paddle_process`` alone.
"""
