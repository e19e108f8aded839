"""Objects in a store for runs: S3, Google Cloud Storage, Azure, or a server with the interface of one of them.

A run needs three things of a store: objects are written whole or not at all, reading gives what was last written, and
an object can be put *only if none has its name*. A list may be out of date, so nothing is decided by one. The store's
answer to a put may get lost, so after a put if absent that failed the object is read: its bytes say who put it.
"""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from evofool.errors import ConfigError, CorruptData, EvofoolError, StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

__all__ = ["Objects"]

LARGEST = 2 << 30  # bytes of one object
TRIES = 6  # of a put whose outcome is unclear
RETRIES: RetryConfig = {  # by obstore, after a fault of the store or the network
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=170),
    "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 2},
}
_T = TypeVar("_T")
_R = TypeVar("_R")
# Text in an error -> what a message says instead: the store's own words may contain a key's name or a signature.
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
        store: an obstore store; by default that of the URL, with credentials from the environment.
        together: how many requests may run at once.

    Raises:
        StorageError: by any method but `delete` and `listed`: the store refused, or did not answer.
    """

    def __init__(self, url: str, store: ObjectStore | None = None, *, together: int = 8) -> None:
        self.url = url
        self.together = together
        self.pause: Callable[[float], object] = time.sleep
        self._opened = store

    @functools.cached_property
    def _store(self) -> ObjectStore:
        """Opened when first used, so that commands that use no store do not need obstore."""
        return _open(self.url) if self._opened is None else self._opened

    def get(self, name: str) -> bytes | None:
        """The bytes of an object; None if it does not exist. Raises as `get_if_changed`."""
        answer = self.get_if_changed(name, None)
        return answer[0] if answer else None

    def get_if_changed(self, name: str, tag: str | None) -> tuple[bytes, str | None] | None:
        """The bytes of an object and its tag; None if it does not exist, or still has the tag `tag`.

        Raises:
            CorruptData: it is larger than any file of a run.
        """
        with self._guard(name, "read it"):
            try:
                answer = self._store.get(name, options={"if_none_match": tag} if tag else {})
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                    raise
                return None
            except Exception as error:
                if type(error).__name__ == "NotModifiedError":
                    return None
                raise
            size = answer.meta["size"]
            if size > LARGEST:
                raise CorruptData(f"{self.url}/{name}: {size} bytes are more than a run's file can have.")
            return bytes(answer.bytes()), answer.meta["e_tag"]

    def put(self, name: str, data: bytes) -> str | None:
        """Write an object, replacing an older one of its name; its new tag."""
        with self._guard(name, "write it"):
            return self._store.put(name, data)["e_tag"]

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if none has its name: whether the object of this name now holds `data`.

        That is read from the store where its answer was lost or was a refusal. Of several callers with different data
        exactly one gets True.

        Raises:
            ConfigError: the store cannot put objects only if absent.
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
            stored = self.get(name)
            if stored is not None:
                return stored == data
            # Another request for this name is not finished (S3 answers 409 then), or the store had a fault.
            self.pause(0.05 * 2**attempt)
        raise StorageError(f"{self.url}/{name}: cannot write it ({_reason(failure)}).")

    def delete(self, names: Iterable[str]) -> int:
        """Delete objects; how many requests succeeded. Objects that remain are deleted by a later driver."""
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
        """Names below a folder as the store lists them: perhaps out of date, empty where listing is not allowed."""
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
        """
        name = f"_evofool/probe-{secrets.token_hex(8)}"
        try:
            if not self.create(name, b"first") or self.create(name, b"second"):
                raise ConfigError(self._unfit("overwrote an object that was to be put only if absent"))
        finally:
            self.delete([name])

    def each(self, function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """The results of a function for each item, in order; `together` calls run at once."""
        items = list(items)
        if self.together == 1 or len(items) < 2:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(self.together, len(items))) as pool:
            return list(pool.map(function, items))

    def _unfit(self, what: str) -> str:
        return (
            f"{self.url}: this store {what} (If-None-Match), so it could not keep two drivers of one run apart; "
            "use another store or endpoint, or a folder."
        )

    @contextlib.contextmanager
    def _guard(self, name: str, doing: str) -> Iterator[None]:
        """Turn errors of obstore into errors that name the URL, and repeat nothing that could be secret."""
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


def _open(url: str) -> ObjectStore:
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
    """Whether an error comes from the store or the network, and not from a mistake in this program."""
    ours = any(base.__module__.startswith("obstore") for base in type(error).__mro__)
    return ours or isinstance(error, (OSError, NotImplementedError))


def _is_unsupported(error: Exception) -> bool:
    named = isinstance(error, NotImplementedError) or type(error).__name__ == "NotSupportedError"
    return named or _status(error) == 501


def _is_final(error: Exception) -> bool:
    """Whether another try would fail alike."""
    refused = isinstance(error, (PermissionError, FileNotFoundError)) or _status(error) in (401, 403)
    told = type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError")
    return refused or told or _is_unsupported(error) or not _is_answer(error)


def _status(error: Exception) -> int | None:
    match = re.search(r"status code: (\d{3})", str(error))
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    text, status = str(error), _status(error)
    for sign, reason in _REASONS.items():
        if sign in text:
            return reason
    if isinstance(error, PermissionError) or status in (401, 403):
        return "permission denied; check the credentials in the environment and what they may do"
    return f"it answers with status {status}" if status else type(error).__name__
