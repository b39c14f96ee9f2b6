"""Retire a model on a target: deploy, in its place, a version of its component that has devices let go of it.

The failure this exists for: taking a model's component out of a deployment SUCCEEDS, and the runtime, which owns its copy
and is told nothing, serves on (measured on Greengrass Lite). Of the ways to tell it:

- a version of the component whose ``startup`` asks the runtime to deactivate: the channel that activations take, on both
  nuclei, its exit code the deployment's verdict, and every device is told, whenever it comes back or joins. Chosen.
- an ``uninstall`` or ``shutdown`` step of the model's recipe: Lite runs neither.
- a message from the cloud, or a line in the runtime's configuration: a second channel without a verdict; a configuration
  merge restarts the runtime on Lite.
- the runtime asking its nucleus what is deployed: Lite does not serve ListComponents.

Versions ``0.0.<n>`` are kept for this; the number counts the forms that the recipe has had, so that an unchanged one is
published once and every later retirement finds it. The model's release floor stays on each device: what was retired may
be deployed again, what is older may not.
"""

from dataclasses import dataclass

from cloud.digests import file_sha256
from cloud.errors import NotFoundError
from cloud.names import RETIRED_PREFIX, is_retirement
from cloud.publishing.component_release import ComponentRelease, Upload, release_component
from cloud.publishing.deploy import DeployPorts, Target
from cloud.publishing.ports import ArtifactStore
from cloud.publishing.publication import PublishingPorts
from cloud.publishing.recipe import RETIRED_TEMPLATE, RetiredRecipe, retired_recipe
from cloud.publishing.record import Layout
from cloud.publishing.records import model_name_of
from edge_component.contracts.manifest import HANDOVER_FILE


@dataclass(frozen=True, slots=True)
class Retirement:
    """The component version that stands for a model's removal."""

    component_name: str
    model_name: str
    version: str


def check_deployed(target: Target, component_name: str, ports: DeployPorts) -> None:
    """A target's current deployment names this model's component, retired already or not.

    Raises:
        NotFoundError: it does not.
    """
    latest = ports.deployments.latest(target.arn)
    components = latest.get("components") or {} if latest else {}
    if component_name not in components:
        others = ", ".join(sorted(components)) or "nothing"
        raise NotFoundError(
            f"{target.name} is not asked to run {component_name}",
            f"Its deployment holds {others}. Where devices serve the model all the same, --force retires it.",
        )


def publish_retirement(component_name: str, bucket: str, ports: PublishingPorts) -> Retirement:
    """The model's retirement as a component version: the one that exists, unless its recipe has changed since.

    Raises:
        NotFoundError: nothing of that component was published here.
        RecipeInvalidError, ComponentFailedError, UnavailableError: as for a publication; running it again completes it.
    """
    model_name = _model_name(component_name, Layout(bucket), ports.artifacts)
    taken = (one for one in ports.catalog.versions(component_name) if is_retirement(component_name, one))
    newest = max((_number(version) for version in taken), default=0)
    drafts = (_draft(component_name, model_name, number, bucket, ports) for number in (newest, newest + 1) if number)
    release = next(draft for draft in drafts if _is_free_or_same(draft, ports))
    release_component(release, ports.artifacts, ports.catalog, ports.report, ports.patience)
    return Retirement(component_name, model_name, release.version)


def _draft(component_name: str, model_name: str, number: int, bucket: str, ports: PublishingPorts) -> ComponentRelease:
    version = f"{RETIRED_PREFIX}{number}"
    uri = Layout(bucket).artifact(component_name, file_sha256(ports.handover), HANDOVER_FILE)
    wanted = RetiredRecipe(component_name, model_name, version, str(uri))
    recipe = retired_recipe((ports.recipes / RETIRED_TEMPLATE).read_text(), wanted)
    return ComponentRelease(component_name, version, (Upload(uri, ports.handover),), recipe)


def _is_free_or_same(draft: ComponentRelease, ports: PublishingPorts) -> bool:
    found = ports.catalog.find(draft.component_name, draft.version)
    return found is None or found.recipe_sha256 == draft.recipe_sha256


def _model_name(component_name: str, layout: Layout, artifacts: ArtifactStore) -> str:
    found = model_name_of(component_name, layout, artifacts)
    if not found:
        raise NotFoundError(f"no version of {component_name} is published", "Only a published model can be retired.")
    return found


def _number(version: str) -> int:
    text = version.removeprefix(RETIRED_PREFIX)
    return int(text) if text.isdecimal() else 0
