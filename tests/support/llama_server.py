"""llama.cpp's own server with the embedded model and a chat template of the test's."""

import subprocess
import sys
from pathlib import Path

from chatapp.upstream import local_model

TEMPLATES = Path(__file__).parent / "templates"
API_KEY = "sk-test"
CODE = """
import os, sys
import xllamacpp
from chatapp.upstream import local_model

make = xllamacpp.Server


def with_template(params):
    params.use_jinja, params.chat_template = True, open(sys.argv[1]).read()
    return make(params)


xllamacpp.Server = with_template
server = local_model._llama_server(local_model.weights(), sys.argv[2])
print(server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)  # llama.cpp's threads would hold up the interpreter's own way out
"""


class LlamaServer:
    """A process of its own, which ends with `close` or with this one.

    :param template: the name of a file in `templates`.
    """

    model = local_model.MODEL_ID

    def __init__(self, template: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(TEMPLATES / template), API_KEY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        listening = self._process.stdout.readline().strip()
        assert listening.startswith("http://"), self._process.communicate()[1]
        self.url = f"{listening}/v1"

    def close(self) -> None:
        self._process.communicate(timeout=30)
