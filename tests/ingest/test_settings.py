"""Settings: each wrong or missing one is named, with what would be right."""

import pytest

from ingest.settings import ReceiverSettings, WriterSettings
from tbg_core.settings import SUN_PATH_MAX, SettingsError


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in (ReceiverSettings, WriterSettings):
        for name in settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)


def test_every_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        WriterSettings.load()
    assert "REDIS_URL is not set: Redis or Valkey" in str(caught.value)
    assert "DATABASE_URL is not set: PostgreSQL" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("REDIS_URL", "localhost", "REDIS_URL: must start with redis://"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL: Input should be 'DEBUG'"),
        ("SOCKET_PATH", "/" + "x" * SUN_PATH_MAX, "SOCKET_PATH: is longer than"),
        ("SOCKET_MODE", "rw-rw----", "SOCKET_MODE"),
        ("QUEUE_LENGTH", "1", "QUEUE_LENGTH: Input should be greater than or equal to 10"),
        ("RECEIVER_METRICS_PORT", "70000", "RECEIVER_METRICS_PORT"),
        ("SPOOL_MAX_BYTES", "lots", "SPOOL_MAX_BYTES"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        ReceiverSettings.load()
    assert message in str(caught.value)


def test_a_password_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@localhost")
    monkeypatch.setenv("DATABASE_URL", "postgresql://tbg:s3cret@localhost/tbg")
    assert "s3cret" not in repr(WriterSettings.load())
    monkeypatch.setenv("DATABASE_URL", "mysql://tbg:s3cret@localhost/tbg")
    with pytest.raises(SettingsError) as caught:
        WriterSettings.load()
    assert "s3cret" not in str(caught.value)
