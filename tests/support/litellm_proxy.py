"""LiteLLM's proxy, as its users start it, with mock models and one that asks a scripted server."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.upstream import poll

# It pins other versions of what we use, so it has an environment of its own.
PROGRAM = Path(sys.prefix) / "litellm" / "bin" / "litellm"
API_KEY = "sk-test"
MOCKS = {
    "mock": "Good morning from behind the proxy.",
    "limited": "litellm.RateLimitError",
    "long": "litellm.ContextWindowExceededError",
    "broken": "litellm.InternalServerError",
    "late": "Exception: mock_streaming_error",
}


class LiteLLMProxy:
    """A process of its own until `close`; asks once for each request, and refuses nobody.

    :param folder: for its configuration and its log.
    :param upstream: the scripted server behind the model `scripted`.
    """

    def __init__(self, folder: Path, upstream: str) -> None:
        if not PROGRAM.exists():
            if os.environ.get("CI"):
                pytest.fail(f"There is no {PROGRAM}.")
            pytest.skip("LiteLLM's proxy is not installed: make test")
        config = folder / "litellm.json"
        config.write_text(json.dumps(self._config(upstream)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log = (folder / "litellm.log").open("wb+")
        self._process = subprocess.Popen(
            [PROGRAM, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"} | {"PYTHONPATH": ""},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        try:
            poll(self._answers, 240)
        except AssertionError:
            self.close()
            raise

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
        self._log.close()

    @staticmethod
    def _config(upstream: str) -> dict[str, object]:
        mocks = {
            name: {"model": "openai/mock", "api_key": "none", "mock_response": response}
            for name, response in MOCKS.items()
        }
        scripted = {"model": "openai/scripted", "api_key": "sk-behind", "api_base": upstream}
        models = mocks | {"scripted": scripted}
        return {
            "model_list": [
                {"model_name": name, "litellm_params": params} for name, params in models.items()
            ],
            "router_settings": {"num_retries": 0, "disable_cooldowns": True},
            "litellm_settings": {"num_retries": 0},
            "general_settings": {"master_key": API_KEY},
        }

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            self._log.seek(0)
            pytest.fail(self._log.read().decode("utf-8", "replace"))
        try:
            address = self.url.replace("/v1", "/health/liveliness")
            with urllib.request.urlopen(address, timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False
