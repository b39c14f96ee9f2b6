"""BentoML. Arguments: port, folder of models; starts ``bentoml serve`` over the service below."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["BENCH_MODELS"] = sys.argv[2]
    os.chdir(Path(__file__).parent)
    os.execvp("bentoml", ["bentoml", "serve", "bentoml_server:Models", "--host", "127.0.0.1", "--port", sys.argv[1]])

import bentoml
import sessions


@bentoml.service(workers=1)
class Models:
    def __init__(self):
        self.sessions = sessions.load(os.environ["BENCH_MODELS"])

    @bentoml.api
    def predict(self, request: dict) -> dict:
        outputs = sessions.run(self.sessions[request["model"]], request["inputs"])
        return {name: array.tolist() for name, array in outputs.items()}
