"""Mirror: keep a page before it goes, and prove it afterwards."""

__version__ = "0.1.0"
