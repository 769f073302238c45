"""Graph rewrites: affine folding, Q/DQ placement per target, FP16 with FP32 islands."""
