"""Calibration: data in, one streaming pass over it, and the table of ranges that comes out.

In the order of the data: :mod:`listing` finds the files, :mod:`arrays` and :mod:`images` read them,
:mod:`dataset` checks and batches items, :mod:`split` chooses which of them calibrate and which judge,
:mod:`observe` runs the one pass, :mod:`methods` turns histograms into ranges, :mod:`table` keeps them.
"""
