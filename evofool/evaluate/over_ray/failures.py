"""What to do about each of Ray's errors: one table for all of them."""

from __future__ import annotations

from enum import Enum

from ray import exceptions as ray_errors

from evofool.errors import EvaluationFailed, EvofoolError, ResourcesMissing, StorageError

__all__ = ["CLUSTER", "STORAGE", "VERDICTS", "Verdict", "error_of", "verdict_on"]


class Verdict(Enum):
    """What a call that failed says about the evaluator and about asking again."""

    REQUEUE = "the answer is lost, not the evaluator: ask again"
    RESTART = "the evaluator is lost, and Ray starts it again: ask others, and wait for it"
    REPLACE = "the evaluator is lost for good: ask others, and start a new one"
    STOP = "asking again would not help"


# Every class of ray.exceptions has a row, or a test fails: what a new version of Ray adds must be thought about.
VERDICTS: dict[str, Verdict] = {
    "ActorDiedError": Verdict.REPLACE,
    "ActorUnavailableError": Verdict.RESTART,
    "AsyncioActorExit": Verdict.RESTART,
    "GetTimeoutError": Verdict.REQUEUE,
    "LocalRayletDiedError": Verdict.RESTART,
    "NodeDiedError": Verdict.RESTART,
    "ObjectFetchTimedOutError": Verdict.REQUEUE,
    "ObjectFreedError": Verdict.REQUEUE,
    "ObjectLostError": Verdict.REQUEUE,
    "ObjectReconstructionFailedError": Verdict.REQUEUE,
    "OutOfMemoryError": Verdict.RESTART,
    "OwnerDiedError": Verdict.REQUEUE,
    "PendingCallsLimitExceeded": Verdict.REQUEUE,
    "PlasmaObjectNotAvailable": Verdict.REQUEUE,
    "RayActorError": Verdict.RESTART,
    "ReferenceCountingAssertionError": Verdict.REQUEUE,
    "RpcError": Verdict.REQUEUE,
    "TaskCancelledError": Verdict.REQUEUE,
    "UnserializableException": Verdict.REQUEUE,
    "WorkerCrashedError": Verdict.RESTART,
    # What is wrong with the cluster, or with the code that runs on it.
    "ActorAlreadyExistsError": Verdict.STOP,
    "ActorHandleNotFoundError": Verdict.STOP,
    "ActorPlacementGroupRemoved": Verdict.STOP,
    "ActorUnschedulableError": Verdict.STOP,
    "AuthenticationError": Verdict.STOP,
    "CrossLanguageError": Verdict.STOP,
    "ObjectRefStreamEndOfStreamError": Verdict.STOP,
    "ObjectStoreFullError": Verdict.STOP,
    "OufOfBandObjectRefSerializationException": Verdict.STOP,
    "OutOfDiskError": Verdict.STOP,
    "RayCgraphCapacityExceeded": Verdict.STOP,
    "RayChannelError": Verdict.STOP,
    "RayChannelTimeoutError": Verdict.STOP,
    "RayDirectTransportError": Verdict.STOP,
    "RayError": Verdict.STOP,
    "RaySystemError": Verdict.STOP,
    "RayTaskError": Verdict.STOP,
    "RuntimeEnvSetupError": Verdict.STOP,
    "StreamingGeneratorReplayInconsistentError": Verdict.STOP,
    "TaskPlacementGroupRemoved": Verdict.STOP,
    "TaskUnschedulableError": Verdict.STOP,
    "UserCodeException": Verdict.STOP,
}
STORAGE = ("ObjectStoreFullError", "OutOfDiskError")
CLUSTER = (
    "ActorPlacementGroupRemoved",
    "ActorUnschedulableError",
    "AuthenticationError",
    "RuntimeEnvSetupError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
)


def _names(error: BaseException) -> list[str]:
    """Names of the error's class and its bases, the nearest first, as far as they are in the table."""
    return [cls.__name__ for cls in type(error).__mro__ if cls.__name__ in VERDICTS]


def verdict_on(error: ray_errors.RayError) -> Verdict:
    """What to do about an error."""
    if isinstance(error, ray_errors.RayTaskError):  # its class is derived from that of its cause, too
        return Verdict.STOP
    return VERDICTS[_names(error)[0]]


def error_of(error: ray_errors.RayError) -> EvofoolError:
    """The error to end the run with: evofool's own from inside the evaluator, or one that tells of Ray's."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, EvofoolError):
        return cause
    text = str(cause or error).strip()
    reason = f"{type(cause or error).__name__}: {text.splitlines()[0] if text else 'no message'}"
    if "No module named" in reason:
        return EvaluationFailed(
            f"an evaluator failed: {reason}; set PYTHONPATH to the folder of that module on every node, or, of a live "
            "network, name it by a spec, python:FILE.py:callable."
        )
    if not isinstance(error, ray_errors.RayTaskError):
        name = _names(error)[0]
        if name in STORAGE:
            return StorageError(f"Ray has no room for what evaluators are sent ({reason}); free some disk and resume.")
        if name in CLUSTER:
            return ResourcesMissing(f"Ray refuses to run evaluators ({reason}).")
    return EvaluationFailed(f"an evaluator failed: {reason}")
