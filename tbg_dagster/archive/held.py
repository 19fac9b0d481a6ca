"""Why a day is not dropped."""


class HeldError(Exception):
    """A day past retention has to stay; the text says why."""
