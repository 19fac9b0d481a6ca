"""Numbers with their nouns, for every sentence that a person reads."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 event``, ``1,300 events``; ``many`` where the plural is not ``one`` with an s.

    Verbs go along: ``counted(n, "hour waits", "hours wait")``.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
