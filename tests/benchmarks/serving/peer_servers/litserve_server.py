"""LitServe. Arguments: port, folder of models."""

import sys

import litserve
import sessions


class Models(litserve.LitAPI):
    def setup(self, device):
        self.sessions = sessions.load(sys.argv[2])

    def decode_request(self, request):
        return request

    def predict(self, request):
        return sessions.run(self.sessions[request["model"]], request["inputs"])

    def encode_response(self, output):
        return {name: array.tolist() for name, array in output.items()}


if __name__ == "__main__":
    litserve.LitServer(Models(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
