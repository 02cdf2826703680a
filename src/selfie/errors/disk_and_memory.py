"""What went wrong, said so that a user can act on it: errors of disks and memory, wherever they were wrapped."""

import errno
from collections.abc import Iterator

import torch

from selfie.errors import MemoryExhaustedError, StorageError, UserError

FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EFBIG: "the file is too large"}
LOCKED = dict.fromkeys((errno.EACCES, errno.EPERM), "it may not be written") | {
    errno.EROFS: "it is on a read-only disk"
}
# Libraries that write with code of their own say it in words only.
FULL_WORDS = ("No space left on device", "os error 28", "inline_container.cc", "File too large")
# The last is all that oneDNN says.
MEMORY_WORDS = ("can't allocate memory", "out of memory", "not enough memory", "could not create a primitive")


def explain(error: BaseException) -> UserError | None:
    """The error that the user should see in place of this one; None if it is nothing that we know."""
    for link in _chain(error):
        if isinstance(link, UserError):
            return link
        if isinstance(link, OSError) and link.errno in FULL | LOCKED:
            return storage_error(link)
        if any(word in str(link) for word in FULL_WORDS):
            return _full("a file", f"the disk is full ({link})")
        if is_out_of_memory(link):
            return MemoryExhaustedError(
                "memory",
                f"there is not enough of it ({str(link).splitlines()[0][:200] if str(link) else 'MemoryError'})",
                "lower batch_tokens of the stage, and run again",
            )
    return None


def storage_error(error: OSError) -> StorageError:
    """A disk that is full or can't be written, by name."""
    where = str(error.filename or "a file")
    if error.errno in FULL:
        return _full(where, FULL[error.errno])
    problem = LOCKED.get(error.errno or 0, str(error))
    return StorageError(where, problem, "make it writable, or set SELFIE_DATA to a folder that can be written")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the accelerator or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    unsupported = "primitive descriptor" in str(error)
    return isinstance(error, RuntimeError) and not unsupported and any(word in str(error) for word in MEMORY_WORDS)


def _full(where: str, problem: str) -> StorageError:
    remedy = "make room and run the same command again: what was committed is intact, and the run goes on from there"
    return StorageError(where, problem, remedy)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
