"""What one kind of nucleus does differently from another: a value, never an ``if`` on its name.

The failure it exists for: a component that works on one nucleus and not on the other, or on a simulator that is kinder
than both. Every limit and every habit that a component or a deployment can notice is a field here.

``LITE`` was measured on the real Greengrass Lite 2.6.0 (systemd 252); where a field was only read in its source, the
comment says so. ``JAVA`` was read in the source of the Java nucleus and never run: it is labelled source-derived, its
IPC side is complete, and its deployments differ only where a field says so.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

PORTABLE_OPERATIONS = frozenset(
    {
        "PublishToIoTCore",
        "SubscribeToIoTCore",
        "GetConfiguration",
        "SubscribeToConfigurationUpdate",
        "UpdateConfiguration",
        "UpdateState",
        "PublishToTopic",
        "SubscribeToTopic",
    }
)
"""Answered by both nuclei."""

JAVA_ONLY_OPERATIONS = frozenset(
    {
        "AuthorizeClientDeviceAction", "CancelLocalDeployment", "CreateDebugPassword", "CreateLocalDeployment",
        "DeferComponentUpdate", "DeleteThingShadow", "GetClientDeviceAuthToken", "GetLocalDeploymentStatus",
        "GetSecretValue", "GetThingShadow", "ListLocalDeployments", "ListNamedShadowsForThing", "PauseComponent",
        "PutComponentMetric", "ResumeComponent", "SendConfigurationValidityReport", "SubscribeToCertificateUpdates",
        "SubscribeToComponentUpdates", "SubscribeToIoTCoreConnectionStatus", "SubscribeToValidateConfigurationUpdates",
        "UpdateThingShadow", "VerifyClientDeviceIdentity",
    }
)  # fmt: skip
"""Answered by the real Java nucleus, some of them with another component's help, and by no nucleus here."""


class Evidence(StrEnum):
    """How far a profile can be trusted."""

    MEASURED = "measured"
    SOURCE_DERIVED = "source-derived"


@dataclass(frozen=True, slots=True)
class Profile:
    """One nucleus's limits and habits.

    Attributes:
        name: ``lite`` or ``java``.
        evidence: whether the real one was run or only read.
        version: what ``GGC_VERSION`` and fleet status say.
        runtime: the platform attribute ``runtime`` that recipes can ask for.
        socket_name: of the IPC socket, beneath the root folder.
        operations: IPC operations that are answered; any other one gets ServiceError on its stream.
        unsimulated_operations: those of the others that the real one answers; the error says so.
        unsimulated_steps: lifecycle steps that the real one runs and this one does not; a recipe with one is refused.
        reads_skip_if: a step's ``Skipif`` counts; otherwise it is overlooked.
        hard_binds: a HARD dependency is systemd's BindsTo: the dependent ends with it, however well it ended. Otherwise
            it may have FINISHED, and only its failure or its replacement is felt.
        restarts_finished: a deployment also starts what had ended well, as starting systemd's target does.
        replaces_dependency_variables: ``{<dependency>:artifacts:path}`` and the like, of a declared dependency.
        frame_bytes_max: a longer IPC frame closes the connection (sending: is dropped); ``None``: event-stream's own.
        clients_max: IPC connections at once.
        terminates_unary: whether a unary answer carries TERMINATE_STREAM.
        error_fields: names of message and code in an error's payload. (awsiotsdk reads only ``message``.)
        closes_on_bad_token: drops the socket; otherwise answers CONNECT_ACK without CONNECTION_ACCEPTED.
        issues_tokens: whether CONNECT may name a component instead of a token, proven by the peer's process.
        forgets_tokens: an IPC daemon that is started again knows none of the tokens given out before; whoever runs on is
            refused, unless it gives its name. (Lite: read.)
        components_max: names of components that get a token in the IPC daemon's life; the start of a further one fails.
            A removed one keeps its place. ``None``: no limit. (Lite: compiled in; that the start fails was read.)
        publish_bytes_max: payload of PublishToIoTCore; more is ServiceError. Lite: 6,000 went through, 7,000 did not.
        bad_topic_error: what a topic gets for which AWS IoT Core hangs up. (Java looks first; on Lite the publish fails
            with the connection. Read.)
        spools_offline_bytes: PublishToIoTCore while offline keeps so many bytes; 0 refuses at once with ServiceError.
        requires_timestamp: UpdateConfiguration without ``timestamp`` is InvalidArgumentsError.
        honours_receive_mode: SubscribeToTopic's ``receiveMode``; otherwise everybody receives everything.
        yaml_scalars_are_strings: in a local YAML recipe's DefaultConfiguration; JSON recipes keep their types.
        packet_bytes_max: an MQTT message to the device that is larger never arrives; ``None``: MQTT's own limit.
        job_message_bytes_max: a job notification that is larger is dropped without a word to the cloud.
        notify_topic: last part of the jobs topic that announces a deployment.
        job_client_token: what its job requests carry.
        status_bytes_max: a larger fleet status is not sent. (Lite: read; some twenty components fill it.)
        hears_shadow: deployments to a single thing arrive, by its named shadow. (Lite: measured. Java: read.)
        recipe_bytes_max: larger recipes fail the deployment.
        recipe_case_matters: keys must be written exactly as in AWS's documentation; others are overlooked.
        requires_platform_runtime: a manifest without the platform attribute ``runtime`` is not for this nucleus.
        overlooks_unknown_attributes: a manifest's platform attribute that no device has is no obstacle. (Lite: read.)
        fails_on_unknown_variable: a ``{`` that begins no known variable fails the script; otherwise it stays as it is.
        restarts_on_merge: a deployment that changes a component's configuration runs install and startup/run again.
        restarts_on_changed_script: one after which a step reads otherwise, since the configuration or a dependency that
            it names has changed, runs startup/run again; after a change of install, that too.
        rolls_back: everything is downloaded before anything changes, a failure until then changes nothing, and a later one
            is taken back where the deployment asks for ROLLBACK. (Java: read.)
        deletes_old_versions: artifacts and recipe of the version before, after a success.
        install_only_hangs: a component without run and startup never counts as finished.
        runs_stale_install: a version without install runs the install script of the version before.
        uses_systemd: a startup script must announce itself: ``systemd-notify --ready`` and ``--stopping`` are added
            to it, and exit 0 without an announcement is a failure. Otherwise exit 0 is success.
        knows_notify_stopping: systemd 253 and later; on 252 the appended ``--stopping`` fails the startup script.
        errored_fails: a component that reports ERRORED of itself has failed, and is started again.
        tries: starts within ``tries_window_s``, after which a component is BROKEN.
        restart_delay_s: between a failure and the next try.
        default_timeout_s: of install and startup where the recipe gives none.
        stop_grace_s: between SIGTERM and SIGKILL. (Lite: its unit's TimeoutStopSec, 120 s for a run, shortened: nothing of
            ours needs it. Java: read.)
        ready_timeout_s: how long a deployment waits for one component.
        settle_s: a pause before it looks at the components at all.
        reply_timeout_s: how long a job request waits for its answer.
        describe_timeout_s: how long it waits to be told of its next job before it asks again.
        retry_s: between two questions to a data plane that does not answer.
        daemon_restart_s: until a killed deployment daemon is back.
    """

    name: str
    evidence: Evidence
    version: str
    runtime: str
    socket_name: str
    operations: frozenset[str]
    unsimulated_operations: frozenset[str]
    unsimulated_steps: frozenset[str]
    reads_skip_if: bool
    hard_binds: bool
    restarts_finished: bool
    replaces_dependency_variables: bool
    frame_bytes_max: int | None
    clients_max: int
    terminates_unary: bool
    error_fields: tuple[str, str]
    closes_on_bad_token: bool
    issues_tokens: bool
    forgets_tokens: bool
    components_max: int | None
    publish_bytes_max: int
    bad_topic_error: str
    spools_offline_bytes: int
    requires_timestamp: bool
    honours_receive_mode: bool
    yaml_scalars_are_strings: bool
    packet_bytes_max: int | None
    job_message_bytes_max: int | None
    notify_topic: str
    job_client_token: str
    status_bytes_max: int | None
    hears_shadow: bool
    recipe_bytes_max: int
    recipe_case_matters: bool
    requires_platform_runtime: bool
    overlooks_unknown_attributes: bool
    fails_on_unknown_variable: bool
    restarts_on_merge: bool
    restarts_on_changed_script: bool
    rolls_back: bool
    deletes_old_versions: bool
    install_only_hangs: bool
    runs_stale_install: bool
    uses_systemd: bool
    knows_notify_stopping: bool
    errored_fails: bool
    tries: int = 3
    tries_window_s: float = 3600.0
    restart_delay_s: float = 1.0
    default_timeout_s: float = 120.0
    stop_grace_s: float = 15.0
    ready_timeout_s: float = 300.0
    settle_s: float = 5.0
    reply_timeout_s: float = 10.0
    describe_timeout_s: float = 30.0
    retry_s: float = 1.0
    daemon_restart_s: float = 1.0


LITE = Profile(
    name="lite",
    evidence=Evidence.MEASURED,
    version="2.6.0",
    runtime="aws_nucleus_lite",
    socket_name="gg-ipc.socket",
    operations=PORTABLE_OPERATIONS | {"RestartComponent", "ValidateAuthorizationToken"},
    unsimulated_operations=frozenset({"CreateLocalDeployment", "GetSystemConfig"}),
    unsimulated_steps=frozenset({"bootstrap", "uninstall"}),  # it overlooks shutdown and recover, as the real one does
    reads_skip_if=False,
    hard_binds=True,
    restarts_finished=True,
    replaces_dependency_variables=False,
    frame_bytes_max=10_000,
    clients_max=50,
    terminates_unary=False,
    error_fields=("_message", "_errorCode"),
    closes_on_bad_token=True,
    issues_tokens=True,
    forgets_tokens=True,
    components_max=50,
    publish_bytes_max=6_000,
    bad_topic_error="ServiceError",
    spools_offline_bytes=0,
    requires_timestamp=True,
    honours_receive_mode=False,  # read in the source
    yaml_scalars_are_strings=True,
    packet_bytes_max=5_000,
    job_message_bytes_max=4_096,
    notify_topic="notify-next-namespace-aws-gg-deployment",
    job_client_token="jobs-nucleus-lite",  # noqa: S106 - an echo field of IoT Jobs, no secret
    status_bytes_max=5_000,
    hears_shadow=False,
    recipe_bytes_max=16_384,
    recipe_case_matters=True,
    requires_platform_runtime=True,
    overlooks_unknown_attributes=True,
    fails_on_unknown_variable=True,
    restarts_on_merge=True,
    restarts_on_changed_script=False,
    rolls_back=False,
    deletes_old_versions=True,
    install_only_hangs=True,
    runs_stale_install=True,
    uses_systemd=True,
    knows_notify_stopping=False,
    errored_fails=False,
)
"""Greengrass Lite 2.6.0 on Debian 12."""

JAVA = Profile(
    name="java",
    evidence=Evidence.SOURCE_DERIVED,
    version="2.18.0",
    runtime="aws_nucleus_classic",
    socket_name="ipc.socket",
    operations=PORTABLE_OPERATIONS
    | {"RestartComponent", "StopComponent", "ValidateAuthorizationToken", "ListComponents", "GetComponentDetails"},
    unsimulated_operations=JAVA_ONLY_OPERATIONS,
    unsimulated_steps=frozenset({"bootstrap", "shutdown", "recover", "uninstall"}),
    reads_skip_if=True,
    hard_binds=False,
    restarts_finished=False,
    replaces_dependency_variables=True,
    frame_bytes_max=None,
    clients_max=1_000,
    terminates_unary=True,
    error_fields=("message", "errorCode"),
    closes_on_bad_token=False,
    issues_tokens=False,
    forgets_tokens=False,
    components_max=None,
    publish_bytes_max=128 * 1024,
    bad_topic_error="InvalidArgumentsError",
    spools_offline_bytes=2_500_000,
    requires_timestamp=False,
    honours_receive_mode=True,
    yaml_scalars_are_strings=False,
    packet_bytes_max=None,
    job_message_bytes_max=None,
    notify_topic="notify-namespace-aws-gg-deployment",
    job_client_token="jobs-nucleus-java",  # noqa: S106 - an echo field of IoT Jobs, no secret
    status_bytes_max=None,
    hears_shadow=True,
    recipe_bytes_max=16_000,
    recipe_case_matters=False,
    requires_platform_runtime=False,
    overlooks_unknown_attributes=False,
    fails_on_unknown_variable=False,
    restarts_on_merge=False,
    restarts_on_changed_script=True,
    rolls_back=True,
    deletes_old_versions=True,
    install_only_hangs=False,
    runs_stale_install=False,
    uses_systemd=False,
    knows_notify_stopping=True,
    errored_fails=True,
    stop_grace_s=5.0,
)
"""The Java nucleus, source-derived."""

PROFILES = {profile.name: profile for profile in (LITE, JAVA)}


def paced(profile: Profile, factor: float) -> Profile:
    """The same nucleus with its own waits multiplied; what components and recipes ask for is untouched.

    All of them together: a deployment that looked sooner at components that restart later would see other things.
    """
    return replace(
        profile,
        restart_delay_s=profile.restart_delay_s * factor,
        settle_s=profile.settle_s * factor,
        ready_timeout_s=profile.ready_timeout_s * factor,
        describe_timeout_s=profile.describe_timeout_s * factor,
        daemon_restart_s=profile.daemon_restart_s * factor,
    )
