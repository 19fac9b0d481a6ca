"""URLs of a PostgreSQL database."""

from urllib.parse import urlsplit, urlunsplit


def without_password(url: str) -> str:
    """Returns a URL that may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = parts.username or ""
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{place}"))


def libpq_url(url: str) -> str:
    """Returns such a URL as libpq has it, without a driver."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql"))
