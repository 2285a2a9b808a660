"""Disk and database: homes, keys, durable writes, the index."""
