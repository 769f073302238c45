"""One file per backend behind one small protocol. The only home of onnxruntime, tensorrt and paddle.inference."""
