"""Every size limit of the contracts, with its unit and its reason, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults are what the smallest supported nucleus can carry.

    Attributes:
        publish_bytes_max: payload of one MQTT publish. Greengrass Lite 2.6.0 closes its IPC connection at about 7 kB.
        job_document_bytes_max: an IoT Job document. Lite's scratch buffer for a job change is 4,096 bytes.
        recipe_bytes_max: a component recipe (Greengrass: 16,000).
        manifest_bytes_max: a bundle's ``manifest.json``.
        baseline_bytes_max: a bundle's ``baseline.json``.
        golden_bytes_max: what a bundle's ``golden.npz`` unpacks to.
        signature_bytes_max: a bundle's ``model.sig``.
        admin_line_bytes_max: one JSON line on the admin socket, its newline included.
        signed_statement_bytes_max: what AWS KMS signs with ``MessageType=RAW``.
        bundle_files_max: files in one bundle.
        bundle_bytes_max: sum of the sizes of a bundle's files.
        nesting_levels_max: objects and lists within one another in any document.
        epoch_chars_max: the outbox's epoch.
        text_chars_max: any free text that a device reports, such as a refusal's message.
        configuration_values_max: values of a runtime's configuration that are compared: a tag each on a deployment (AWS
            allows 50), some 30 bytes each in a heartbeat.
    """

    publish_bytes_max: int = 5_000
    job_document_bytes_max: int = 4_000
    recipe_bytes_max: int = 16_000
    manifest_bytes_max: int = 64_000
    baseline_bytes_max: int = 8_000_000
    golden_bytes_max: int = 512_000_000
    signature_bytes_max: int = 262_144
    admin_line_bytes_max: int = 65_536
    signed_statement_bytes_max: int = 4_096
    bundle_files_max: int = 64
    bundle_bytes_max: int = 2_000_000_000
    nesting_levels_max: int = 32
    epoch_chars_max: int = 64
    text_chars_max: int = 600
    configuration_values_max: int = 40


LIMITS = Limits()
