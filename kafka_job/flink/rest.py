"""Questions to Flink's REST API.

Leans on: nothing that Flink does not promise, but for the names of metrics that execution/live.py asks for.
"""

import json
import urllib.request
from typing import Any


def get_json(url: str, timeout: float = 10) -> Any:
    """The answer to a GET, within `timeout` seconds.

    Raises:
        OSError, http.client.HTTPException, ValueError: there is none.
    """
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return json.load(response)
