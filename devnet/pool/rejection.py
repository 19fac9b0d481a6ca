"""Why a share is refused, in the words of miners and of events."""

from enum import Enum


class Rejection(Enum):
    """One reason to refuse a share.

    ``code`` and ``text`` go to the miner. The codes are those that Stratum V1 servers have always
    used (20 other, 21 job not found, 22 duplicate, 23 low difficulty, 24 unauthorised, 25 not
    subscribed). ``reason`` is the event's ``reject_reason``, in ckpool's words if it has any, so
    that the statistics of both engines agree.
    """

    UNKNOWN_JOB = (21, "Job not found", "Invalid JobID")
    STALE = (21, "Stale share", "Stale")
    DUPLICATE = (22, "Duplicate share", "Duplicate")
    LOW_DIFFICULTY = (23, "Low difficulty share", "Above target")
    UNAUTHORIZED = (24, "Unauthorized worker", "Worker mismatch")
    NOT_SUBSCRIBED = (25, "Not subscribed", "Not subscribed")
    NTIME = (20, "Ntime out of range", "Ntime out of range")
    VERSION_MASK = (20, "Invalid version mask", "Invalid version mask")
    MALFORMED = (20, "Malformed share", "Malformed")

    def __init__(self, code: int, text: str, reason: str) -> None:
        self.code = code
        self.text = text
        self.reason = reason
