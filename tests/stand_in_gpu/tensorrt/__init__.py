"""A stand-in: see stand_in_tensorrt.py."""

from stand_in_tensorrt import *  # noqa: F403

__version__ = "10.13.0"
