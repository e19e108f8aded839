"""Objects in a store that runs can be kept in: S3, Google Cloud Storage, Azure, or what speaks like them.

What a run asks of a store is little: an object is there whole or not at all, is read by its name as it was last
written, and can be put *only if there is none* of that name. A list is a hint, never the truth. An answer may get lost,
so after any failure to put if absent the object is read: what it holds says whether the put took place.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

from evofool.errors import ConfigError, CorruptData, EvofoolError, StorageError

__all__ = ["Objects"]

LARGEST = 2 << 30  # bytes of one object
TRIES = 6  # of a put whose outcome is not known
RETRIES: Any = {  # obstore's, of what failed by a fault of the store or the network
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=170),
    "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 2},
}
_T = TypeVar("_T")
_R = TypeVar("_R")
# What may be said of an error: a store's own words can hold a key's name or a signature.
_REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "ContainerNotFound": "there is no such container",
    "169.254.169.254": "no credentials in the environment",
    "metadata.google.internal": "no credentials in the environment",
    "InvalidAccessKeyId": "the store does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "BadScheme": "the endpoint is http:, which the environment must allow (AWS_ALLOW_HTTP=true)",
    "dns error": "the host name is not known",
    "ConnectionRefused": "connection refused",
    "timed out": "no answer in time",
    "error sending request": "no connection",
}


class Objects:
    """The objects below one URL.

    Args:
        url: as places.as_url gives it.
        store: what has the calls of an obstore store; by default the URL's, with credentials from the environment.
        together: requests under way at once where there are many to make.
    """

    def __init__(self, url: str, store: Any = None, *, together: int = 8) -> None:
        self.url = url
        self.together = together
        self.pause: Callable[[float], object] = time.sleep
        self._given = store

    @property
    def _store(self) -> Any:
        """Opened when first used, so that a command that needs no store needs no package for it."""
        if self._given is None:
            self._given = _open(self.url)
        return self._given

    def get(self, name: str) -> bytes | None:
        """An object, or None if there is none.

        Raises:
            StorageError: the store cannot be read.
            CorruptData: an absurdly large one.
        """
        found = self.get_if_changed(name, None)
        return found[0] if found else None

    def get_if_changed(self, name: str, tag: str | None) -> tuple[bytes, str | None] | None:
        """An object and its tag; None if there is none, or it still has this tag."""
        with self._guard(name, "read it"):
            try:
                found = self._store.get(name, options={"if_none_match": tag} if tag else {})
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                    raise
                return None
            except Exception as error:
                if type(error).__name__ == "NotModifiedError":
                    return None
                raise
            if found.meta["size"] > LARGEST:
                raise CorruptData(f"{self.url}/{name}: {found.meta['size']} bytes are more than a run's file can have.")
            return bytes(found.bytes()), found.meta["e_tag"]

    def put(self, name: str, data: bytes) -> str | None:
        """Write an object, replacing what was there; its new tag.

        Raises:
            StorageError: the store refused, or did not answer.
        """
        with self._guard(name, "write it"):
            tag: str | None = self._store.put(name, data)["e_tag"]
            return tag

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if there is none of its name: whether it now holds these bytes.

        True if this call made it, also where the store's answer was lost or said otherwise; of several callers with
        different bytes exactly one gets True.

        Raises:
            ConfigError: the store cannot do this.
            StorageError: it refused, or what became of the object cannot be found out.
        """
        for attempt in range(TRIES):
            with self._guard(name, "write it"):
                try:
                    self._store.put(name, data, mode="create")
                    return True
                except Exception as error:
                    failure = error
                    if _is_final(error):
                        raise
            found = self.get(name)
            if found is not None:
                return found == data
            # Somebody's request is still under way (S3 says 409 then), or the store had a fault.
            self.pause(0.05 * 2**attempt)
        raise StorageError(f"{self.url}/{name}: cannot write it ({_reason(failure)}).")

    def delete(self, names: Iterable[str]) -> int:
        """Delete objects; how many requests succeeded. What cannot be deleted now, a later driver deletes."""
        return sum(self.each(self._delete, names))

    def _delete(self, name: str) -> bool:
        try:
            self._store.delete(name)
        except Exception as error:
            if not _is_answer(error):
                raise
            return False
        return True

    def listed(self, folder: str) -> list[str]:
        """Names below a folder as the store lists them, which may be late, or nothing where it must not be asked."""
        try:
            return [entry["path"] for batch in self._store.list(folder) for entry in batch]
        except Exception as error:
            if not _is_answer(error):
                raise
            return []

    def probe(self) -> None:
        """Fail now, before any work, if the store does not put if absent.

        Raises:
            ConfigError: it overwrites, or says that it cannot.
            StorageError: it cannot be written.
        """
        name = f"_evofool/probe-{secrets.token_hex(8)}"
        try:
            if not self.create(name, b"first") or self.create(name, b"second"):
                raise ConfigError(self._unfit("overwrote an object that was to be put only if absent"))
        finally:
            self.delete([name])

    def each(self, function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """A function of each item, several at once."""
        there = list(items)
        if self.together == 1 or len(there) < 2:
            return [function(item) for item in there]
        with ThreadPoolExecutor(min(self.together, len(there))) as pool:
            return list(pool.map(function, there))

    def _unfit(self, what: str) -> str:
        return (
            f"{self.url}: this store {what} (If-None-Match), so it could not keep two drivers of one run apart; "
            "use another store or endpoint, or a folder."
        )

    @contextlib.contextmanager
    def _guard(self, name: str, doing: str) -> Iterator[None]:
        """Turn what obstore raises into errors that name the URL, and repeat nothing that could be secret."""
        try:
            yield
        except EvofoolError:
            raise
        except Exception as error:
            if not _is_answer(error):
                raise
            if _is_unsupported(error):
                raise ConfigError(self._unfit("says that it cannot put objects only if absent")) from None
            raise StorageError(f"{self.url}/{name}: cannot {doing} ({_reason(error)}).") from None


def _open(url: str) -> Any:
    try:
        from obstore.store import from_url
    except ImportError:
        raise ConfigError(f"{url}: object stores need the package obstore: pip install 'evofool[cloud]'.") from None
    try:
        return from_url(url, retry_config=RETRIES)
    except Exception as error:
        if not _is_answer(error):
            raise
        raise ConfigError(f"{url}: cannot be opened; check the environment's settings for {url[:2]}.") from None


def _is_answer(error: Exception) -> bool:
    """Whether an error is the store's or the network's, and not one of this program."""
    ours = any(base.__module__.startswith("obstore") for base in type(error).__mro__)
    return ours or isinstance(error, (OSError, NotImplementedError))


def _is_unsupported(error: Exception) -> bool:
    named = isinstance(error, NotImplementedError) or type(error).__name__ == "NotSupportedError"
    return named or _status(error) == 501


def _is_final(error: Exception) -> bool:
    """Whether asking again could change nothing."""
    refused = isinstance(error, (PermissionError, FileNotFoundError)) or _status(error) in (401, 403)
    told = type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError")
    return refused or told or _is_unsupported(error) or not _is_answer(error)


def _status(error: Exception) -> int | None:
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else None


def _reason(error: Exception) -> str:
    text, status = str(error), _status(error)
    for sign, reason in _REASONS.items():
        if sign in text:
            return reason
    if isinstance(error, PermissionError) or status in (401, 403):
        return "permission denied; check the credentials in the environment and what they may do"
    return f"it answers with status {status}" if status else type(error).__name__
