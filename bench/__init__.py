"""The harness: what is run, how it is measured, and where the results are kept."""

__version__ = "0.1.0"
