"""Where alerts go besides Redis: a webhook, if there is one."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import requests
from pydantic import Field
from requests.adapters import HTTPAdapter
from urllib3.util import Retry


class Webhook(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """An HTTP endpoint that takes alerts as JSON. Without a URL, nothing is sent."""

    url: str = Field(default="", description="takes a POST of JSON; empty: none")
    timeout_seconds: int = Field(default=10, description="that an answer may take")

    def send(self, alert: Mapping[str, Any]) -> None:
        """Posts the alert, three times if need be. ``text`` is there for chat services.

        Raises:
            requests.RequestException: when it was not taken.
        """
        if not self.url:
            return
        retry = Retry(
            total=3,
            backoff_factor=0.5,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=("POST",),
        )
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            answer = session.post(
                self.url,
                json={**alert, "text": f"{alert['state']}: {alert['title']}"},
                timeout=self.timeout_seconds,
            )
            answer.raise_for_status()
