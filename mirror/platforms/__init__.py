"""What is known about platforms, as data."""
