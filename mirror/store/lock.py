"""Named locks of a home, shared or exclusive, between processes (flock under `state/locks/`).

The kernel drops a lock when its holder dies, so no lock is ever stale. The files are empty: they
name no process or host.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path
from types import TracebackType

from mirror.errors import HomeError
from mirror.store import durable

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_POLL_S = 0.05


class HomeLock:
    """Hold lock `name` in `directory` (made if missing) while the `with` block runs.

    Several processes may hold it `shared` at once, an exclusive one stands alone. Waits up to `wait_s` seconds, then
    raises `HomeError`. One object is one lock: a second one in the same process competes as another process would.
    """

    def __init__(self, directory: Path, name: str, *, shared: bool = False, wait_s: float = 0.0) -> None:
        if not _NAME.fullmatch(name):
            raise HomeError(f"`{name}` is not a lock name; use lower-case letters, digits and hyphens")
        self.name = name
        self.path = directory / f"{name}.lock"
        self._shared = shared
        self._wait_s = wait_s
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock. Raises `HomeError` when it is busy, held by this object already, or cannot be made."""
        if self._fd >= 0:
            raise HomeError(f"lock `{self.name}` is held already; finish the first job before starting another")
        durable.make_dir(self.path.parent, base=self.path.parent.parent, mode=0o700)
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as e:
            raise durable.explain(e, self.path) from e
        try:
            self._wait(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _wait(self, fd: int) -> None:
        how = fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return fcntl.flock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError as e:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise HomeError(
                        f"another mirror process is at work in this home (lock `{self.name}`); "
                        "wait until it is done, then run the command again"
                    ) from e
                time.sleep(min(_POLL_S, left))
            except OSError as e:
                raise durable.explain(e, self.path) from e

    def __enter__(self) -> HomeLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
