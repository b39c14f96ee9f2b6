"""MLServer with a runtime of a dozen lines. Arguments: port, folder of models."""

import asyncio
import sys

import numpy as np
import sessions
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceResponse, ResponseOutput


class OnnxModel(MLModel):
    async def load(self):
        self._session = sessions.load(sys.argv[2])[self.name]
        self._scalars = {node.name for node in self._session.get_inputs() if node.shape == []}
        return True

    async def predict(self, payload):
        inputs = {
            tensor.name: tensor.data[0] if tensor.name in self._scalars else np.reshape(tensor.data.root, tensor.shape)
            for tensor in payload.inputs
        }
        outputs = sessions.run(self._session, inputs)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                ResponseOutput(name=name, shape=list(array.shape), datatype="FP32", data=array.ravel().tolist())
                for name, array in outputs.items()
            ],
        )


async def main():
    settings = Settings(
        http_port=int(sys.argv[1]), host="127.0.0.1", grpc_port=0,
        metrics_endpoint=None, parallel_workers=0, debug=False,
    )  # fmt: skip
    server = MLServer(settings)
    names = sessions.load(sys.argv[2]).keys()
    await server.start([ModelSettings(name=name, implementation=OnnxModel) for name in names])


asyncio.run(main())
