"""A process of its own that asks a lying runtime: ``python -m … SOCKET KIND COUNT``; whatever is no typed error ends it."""

import asyncio
import sys

import numpy as np

from edge_component.client import Client
from edge_component.client.aio import AsyncClient
from edge_component.client.errors import ClientError

ROW = np.array([[1, 2, 3]], np.float32)
DEADLINE_S = 0.2


def ask(path: str, *, copy: bool) -> None:
    """Three requests of the blocking client, and one that is written in place."""
    with Client(path, deadline_s=DEADLINE_S) as client:
        for _ in range(3):
            client.infer("scale", {"x": ROW}, copy=copy)
        client.prepare("scale", {"x": ROW}).infer(copy=copy)


async def ask_async(path: str, *, copy: bool) -> None:
    """Three requests of the other."""
    async with AsyncClient(path, deadline_s=DEADLINE_S) as client:
        for _ in range(3):
            await client.infer("scale", {"x": ROW}, copy=copy)


def main() -> None:
    """Asked so often, and answered or told why not."""
    path, kind, count = sys.argv[1:]
    for number in range(int(count)):
        try:
            if kind == "async":
                asyncio.run(ask_async(path, copy=bool(number % 2)))
            else:
                ask(path, copy=bool(number % 2))
        except ClientError as error:
            print(type(error).__name__)
        else:
            print("answered")


if __name__ == "__main__":
    main()
