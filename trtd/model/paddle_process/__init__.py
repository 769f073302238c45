"""The conversion steps that run Paddle's own code, as a program of its own: see ``__main__``."""
