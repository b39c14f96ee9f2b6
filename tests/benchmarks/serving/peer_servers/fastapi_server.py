"""FastAPI and JSON: what one writes in an afternoon. Arguments: port, folder of models."""

import sys

import sessions
import uvicorn
from fastapi import FastAPI, Request

SESSIONS = sessions.load(sys.argv[2])
app = FastAPI()


@app.post("/predict")
async def predict(request: Request):
    body = await request.json()
    outputs = sessions.run(SESSIONS[body["model"]], body["inputs"])
    return {name: array.tolist() for name, array in outputs.items()}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
