"""Sockets: the only place that opens one."""
