"""The rest of AWS IoT that the local cloud performs itself: where devices connect, and publishing over HTTP."""

from collections.abc import Mapping
from typing import Any

from simulator.aws import greengrass_v2
from simulator.aws.clients import LocalClients
from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError
from simulator.aws.greengrass_data import DeviceDoor
from simulator.aws.iot_jobs import IotJobs
from simulator.aws.iot_jobs_api import JobsApi
from simulator.aws.iot_jobs_mqtt import JobsOverMqtt
from simulator.aws.iot_things import MotoThings
from simulator.aws.operations import Call
from simulator.aws.s3_objects import S3Objects
from simulator.mqtt import MqttError

ENDPOINT_TYPES = ("iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs")


class IotApi:
    """DescribeEndpoint and Publish."""

    def __init__(self, cloud: Cloud) -> None:
        """Registers the operations."""
        self._cloud = cloud
        cloud.operations.serve("iot", {"DescribeEndpoint": self.describe_endpoint})
        cloud.operations.serve("iot-data", {"Publish": self.publish})

    def describe_endpoint(self, call: Call) -> Mapping[str, Any]:
        """DescribeEndpoint: the broker for data, where one runs; this server for everything else."""
        kind = call.parameters.get("endpointType") or "iot:Data-ATS"
        if kind not in ENDPOINT_TYPES:
            raise AwsError("InvalidRequestException", f"endpointType: {kind!r} is none of {', '.join(ENDPOINT_TYPES)}")
        here = self._cloud.url.removeprefix("http://")
        is_data = kind.startswith("iot:Data")
        return {"endpointAddress": self._cloud.broker_endpoint if is_data and self._cloud.broker_endpoint else here}

    def publish(self, call: Call) -> None:
        """Publish: to the broker, hence to devices and rules."""
        try:
            self._cloud.bus.publish(call.parameters["topic"], call.parameters.get("payload") or b"")
        except MqttError as error:
            raise AwsError("ServiceUnavailableException", str(error), status=503) from error


def install(cloud: Cloud) -> None:
    """Make AWS IoT's endpoints, publishing and jobs real, and Greengrass V2, which stands on them."""
    things, clients = MotoThings(cloud), LocalClients(cloud)
    IotApi(cloud)
    jobs = IotJobs(things, cloud.bus, cloud.clock)
    JobsApi(cloud, jobs, S3Objects(cloud))
    JobsOverMqtt(jobs, cloud.bus)
    components = greengrass_v2.install(cloud, jobs, things, clients)
    cloud.device_doors.append(DeviceDoor(things, components, clients))
