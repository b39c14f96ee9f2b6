"""What a device application imports: ask the Edgewright runtime on this device for predictions.

::

    from edge_component.client import Client

    with Client("/greengrass/v2/work/com.edgewright.Runtime/infer.sock") as client:
        answer = client.infer("weather", {"input": features})
        answer.outputs["probability"], answer.model.version

``AsyncClient`` in aio.py is the same for asyncio, and ``c/`` a client for C. Standard library and numpy only; it uses
nothing of the runtime but the contracts, and knows nothing of versions: a swap or an upgrade of the runtime is a slower
answer at most.
"""

from edge_component.client.answers import Answer as Answer
from edge_component.client.client import Client as Client, PreparedRequest as PreparedRequest
from edge_component.client.errors import (
    BusyError as BusyError,
    ClientError as ClientError,
    DeadlineExceededError as DeadlineExceededError,
    InputError as InputError,
    ModelFailedError as ModelFailedError,
    OverloadedError as OverloadedError,
    ProtocolError as ProtocolError,
    RefusedError as RefusedError,
    UnavailableError as UnavailableError,
    UnknownModelError as UnknownModelError,
)
