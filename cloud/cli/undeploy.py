"""``edgewright undeploy``: stop serving a model on thing groups; the doing is ``cloud.publishing.retirement``."""

from typing import Annotated

import typer

from cloud.aws.greengrass import Components, Deployments
from cloud.aws.iot import ThingRegistry
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.cli.deploy import DEPLOYED_SO_FAR, print_deployed
from cloud.cli.interrupted import interruptible
from cloud.cli.output import OutputFormat, OutputOption
from cloud.cli.progress import shown_progress
from cloud.cli.reported import ReportedVersions
from cloud.publishing.component_names import find_component
from cloud.publishing.deploy import DeployPorts, deploy, find_target
from cloud.publishing.deployment import Wish
from cloud.publishing.publication import PublishingPorts
from cloud.publishing.retirement import check_deployed, publish_retirement
from cloud.publishing.waiting import check_outcome, wait_for_devices
from cloud.settings import Settings


def undeploy(
    model: Annotated[str, typer.Argument(help="Model name or component.")],
    source: Annotated[
        list[str], typer.Option("--from", help="Thing group or thing; group:NAME, thing:NAME. Repeatable.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Until every device has finished.")] = False,
    timeout_s: Annotated[int, typer.Option(min=1, help="How long --wait waits.")] = 600,
    again: Annotated[bool, typer.Option("--again", help="A new deployment even if nothing changes.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where the deployment does not name the model.")] = False,
    bucket: Annotated[str, typer.Option("--bucket", help="S3 bucket. Default: EDGEWRIGHT_BUCKET.")] = "",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Stop serving a model: each device lets go of it, and forgets its bundles but not how new the newest was.

    Everything else of the deployment stays. Taking the component out of a deployment by other means does not do this: the
    runtime would serve on. `edgewright deploy` brings the model back, the retired version or a newer one.

    Exit code 1: a device failed; 4: the model is not deployed there; 5: not all have finished in time.

    For example:

      edgewright undeploy weather --from canary --wait
    """
    settings = Settings.from_environment()
    session, chosen_bucket = AwsSession(settings.region), bucket or settings.bucket
    store, components = ObjectStore(session), Components(session)
    component_name = find_component(model, chosen_bucket, store)
    with interruptible("undeploying", DEPLOYED_SO_FAR), shown_progress() as report:
        ports = DeployPorts(
            ThingRegistry(session), Deployments(session), components, report, ReportedVersions(settings)
        )
        targets = [find_target(name, ports) for name in source]
        for target in targets if not force else ():
            check_deployed(target, component_name, ports)
        retired = publish_retirement(component_name, chosen_bucket, PublishingPorts(store, components, report=report))
        wish = Wish(component_name, retired.version)
        deployed = [deploy(target, wish, ports, again=again) for target in targets]
        statuses = wait_for_devices(deployed, ports, timeout_s) if wait else ()
    print_deployed(deployed, statuses, output)
    check_outcome(statuses)
