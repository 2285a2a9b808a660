"""Durable writes: the only place that writes files of a home.

A new file goes through numbered steps (threats.md, rule 1); only after the last may anybody be told that it is kept:
    1  write to `.tmp-<random>` in the target's directory, under flock
    2  fsync of the file
    3  link (or rename) to its name; a new file never overwrites another
    4  fsync of the directory
A crash before 3 leaves a `.tmp-` file that `sweep` removes: it is never evidence. If an fsync fails, the kernel may
have dropped the pages, so no second fsync proves anything: from then on this process refuses to publish at all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from mirror.errors import HomeError

TEMP_PREFIX = ".tmp-"

_IOV_MAX = 1024
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_WHAT_TO_DO = {
    errno.ENOSPC: "the disk is full; free some space, then run the command again",
    errno.EDQUOT: "your disk quota is used up; free some space, then run the command again",
    errno.EROFS: "the file system is read-only; use a home on a writable disk (--home)",
    errno.EACCES: "permission denied; check who owns the mirror home and its modes",
    errno.EPERM: "the operation is not permitted; check who owns the mirror home and its file system",
    errno.EMFILE: "too many open files; raise `ulimit -n` or save fewer pages at once",
    errno.ENFILE: "the system has too many open files; close other programs and run the command again",
    errno.EIO: "the disk reports an error; check it, then run `mirror verify` over the home",
    errno.EEXIST: "it exists already and was not overwritten",
    errno.ENOENT: "it or its folder does not exist; check the path of the mirror home",
    errno.ENOTDIR: "a part of the path is not a folder; check the path of the mirror home",
    errno.EISDIR: "it is a folder where a file was expected; check the path of the mirror home",
    errno.ENAMETOOLONG: "the path is too long; move the mirror home to a shorter one",
    errno.ELOOP: "symbolic links are not followed here; use the real path",
    errno.EFBIG: "the file system or `ulimit -f` does not allow a file that large",
}

_sync_failed = False
_durable_dirs: set[str] = set()


def explain(error: OSError, path: Path | str) -> HomeError:
    """Return the `HomeError` for a failed system call on `path`: what is wrong and what to do next."""
    what = _WHAT_TO_DO.get(error.errno or 0, f"{os.strerror(error.errno or 0)}; check the mirror home's disk")
    return HomeError(f"{path}: {what}")


class Staged:
    """An open temporary file that is published under its real name later, or discarded.

    As a context manager it discards whatever was not published. The flock on `fd` tells `sweep` that the writer lives.
    """

    __slots__ = ("_open", "fd", "path", "size")

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.size = 0  # bytes written so far
        self._open = True

    @classmethod
    def open(cls, directory: Path, suffix: str = "", *, mode: int = 0o600) -> Staged:
        """Start a file in `directory`, which must be the target's; `mode` less the umask. Raises `HomeError`."""
        while True:
            path = directory / f"{TEMP_PREFIX}{os.urandom(8).hex()}{suffix}"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
            except FileExistsError:
                continue
            except OSError as e:
                raise explain(e, path) from e
            staged = cls(fd, path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    return staged
            except BlockingIOError:
                pass  # a sweeper saw the file between its creation and its lock, and is removing it: take another name
            except OSError as e:
                staged.discard()
                raise explain(e, path) from e
            staged.discard()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`. Raises `HomeError`; the file is then only good for `discard`."""
        view = memoryview(data).cast("B")
        try:
            while view.nbytes:
                done = os.write(self.fd, view)
                self.size += done
                view = view[done:]
        except OSError as e:
            raise explain(e, self.path) from e

    def writev(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append all `parts` in order with as few system calls as possible. Raises as `write`."""
        for start in range(0, len(parts), _IOV_MAX):
            batch = parts[start : start + _IOV_MAX]
            try:
                done = os.writev(self.fd, batch)
            except OSError as e:
                raise explain(e, self.path) from e
            self.size += done
            for part in batch:  # what a short write left over
                length = memoryview(part).nbytes
                if done < length:
                    self.write(memoryview(part).cast("B")[done:])
                done = max(0, done - length)

    def publish(self, target: Path, *, replace: bool = False) -> None:
        """Give the file its name, durably: on return it survives a power cut. Closes the file.

        Raises `HomeError`: if `target` exists and `replace` is false, if an fsync failed now or earlier in this process
        (stop then, and verify from disk), or if a system call failed; what is then on disk was not promised.
        """
        try:
            _sync(self.fd, target)  # step 2
            try:
                if replace:  # step 3
                    self.path.replace(target)
                else:
                    _link_new(self.path, target)
            except OSError as e:
                raise explain(e, target) from e
            sync_dir(target.parent)  # step 4
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the temporary file, if it still stands, and close it. Harmless when called again."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(OSError):  # a read-only or vanished disk: `sweep` removes the file another day
            self.path.unlink(missing_ok=True)
        os.close(self.fd)

    def leave(self) -> None:
        """Close the temporary file and let it stand, for `sweep` to find. Harmless when called again."""
        if self._open:
            self._open = False
            os.close(self.fd)

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()


def write_new(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o600) -> None:
    """Write a file that must not exist yet; on return it survives a power cut. Raises `HomeError`."""
    _write(path, data, mode=mode, replace=False)


def replace(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o600) -> None:
    """Write a file, in one step in place of an older one; on return it survives a power cut. Raises `HomeError`."""
    _write(path, data, mode=mode, replace=True)


def remove(path: Path) -> None:
    """Remove a file durably; a missing one is fine. Raises `HomeError`."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise explain(e, path) from e
    sync_dir(path.parent)


def make_dir(path: Path, *, base: Path, mode: int = 0o755) -> None:
    """Make `path` and what is missing between it and `base`, durably; existing folders are fine.

    `base` exists already. `mode` (less the umask) is for every folder made. Also syncs, once per process, levels that
    stand already: another process may have made one and not have reached its own fsync. Raises `HomeError`.
    """
    if not path.is_relative_to(base):
        raise HomeError(f"{path} is not inside {base}; check the path of the mirror home")
    here = base
    for part in path.relative_to(base).parts:
        parent, here = here, here / part
        try:
            here.mkdir(mode)
        except FileExistsError as e:
            if not here.is_dir():
                raise HomeError(f"{here} is not a folder; move it away and run the command again") from e
            if str(here) in _durable_dirs:
                continue
        except OSError as e:
            raise explain(e, here) from e
        sync_dir(parent)
        _durable_dirs.add(str(here))


def sync_dir(path: Path) -> None:
    """Make the names in folder `path` durable. Raises `HomeError`, after which this process publishes nothing more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise explain(e, path) from e
    try:
        _sync(fd, path)
    finally:
        os.close(fd)


def is_abandoned(directory: Path) -> bool:
    """Say whether a `.tmp-` file whose writer is gone lies in `directory`; writes nothing."""
    try:
        with os.scandir(directory) as entries:
            return any(entry.name.startswith(TEMP_PREFIX) and not _is_held(entry.path) for entry in entries)
    except OSError:
        return False


def _is_held(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return True  # gone meanwhile, or not a file that we made
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def sweep(directory: Path) -> int:
    """Remove `.tmp-` files in `directory` (not below it) whose writer is gone; returns how many. Raises `HomeError`."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.path for entry in entries if entry.name.startswith(TEMP_PREFIX)]
        return sum(_sweep_one(name) for name in names)
    except OSError as e:
        raise explain(e, directory) from e


def _sweep_one(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES, errno.EISDIR, errno.ENXIO):
            return False  # gone already, or not a file that we made
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(path).unlink()  # while the lock is held: a writer that waits for it sees that its file has no name
    except (BlockingIOError, FileNotFoundError):
        return False  # its writer lives, or another sweeper was quicker
    finally:
        os.close(fd)
    return True


def _write(path: Path, data: bytes | Iterable[bytes], *, mode: int, replace: bool) -> None:
    with Staged.open(path.parent, mode=mode) as staged:
        for chunk in (data,) if isinstance(data, bytes) else data:
            staged.write(chunk)
        staged.publish(path, replace=replace)


def _sync(fd: int, path: Path) -> None:
    global _sync_failed
    if _sync_failed:
        raise HomeError(f"{path}: not written, because the disk failed earlier; check it, then run `mirror verify`")
    try:
        os.fsync(fd)
    except OSError as e:
        _sync_failed = True
        raise HomeError(
            f"{path}: the disk did not confirm the write ({os.strerror(e.errno or 0)}), so nothing more is written; "
            "check the disk, then run `mirror verify` over the home"
        ) from e


def _link_new(source: Path, target: Path) -> None:
    """Move `source` to `target`, which must not exist. Raises `OSError`."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as e:
        if e.errno not in _NO_HARD_LINKS:
            raise
        _rename_new(source, target)  # FAT and the like
    else:
        source.unlink()


def _rename_new(source: Path, target: Path) -> None:
    """Rename without overwriting, with renameat2(2) RENAME_NOREPLACE. Raises `OSError`."""
    import ctypes

    at_cwd, no_replace = -100, 1
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if libc.renameat2(at_cwd, os.fsencode(source), at_cwd, os.fsencode(target), no_replace):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
