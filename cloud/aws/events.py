"""EventBridge: announce an incident, and rules with their targets.

The failure this exists for: PutEvents and PutTargets answer 200 for entries that they did not take. Here that is an
error, so that nobody marks an incident as announced that was not.
"""

import json
from collections.abc import Mapping
from typing import Any

from cloud.aws.session import AwsSession, translated
from cloud.drift.incidents import Incident
from cloud.errors import UnavailableError

DRIFT_SOURCE = "edgewright.drift"
DRIFT_DETAIL_TYPE = "Edgewright Drift Detected"


class EventBus:
    """One bus; an :class:`~cloud.drift.ports.IncidentSink`. Thread-safe, as boto3's clients are."""

    def __init__(self, session: AwsSession, name: str) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("events")
        self._name = name

    def announce(self, incident: Incident) -> None:
        """See the port. PutEvents answers 200 for entries that it did not take; that is a failure here."""
        entry = {
            "Source": DRIFT_SOURCE,
            "DetailType": DRIFT_DETAIL_TYPE,
            "Detail": json.dumps(incident.detail),
            "EventBusName": self._name,
        }
        with translated(f"announcing incident {incident.incident_id}"):
            answer = self._client.put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            reason = answer["Entries"][0].get("ErrorMessage", "no reason given")
            raise UnavailableError(f"EventBridge did not take incident {incident.incident_id}: {reason}")

    def ensure_rule(self, name: str, pattern: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """Make a rule, or bring it up to date, with this one target (its ``Id`` identifies it)."""
        with translated(f"creating EventBridge rule {name}"):
            self._client.put_rule(Name=name, EventBusName=self._name, EventPattern=json.dumps(pattern), State="ENABLED")
            answer = self._client.put_targets(Rule=name, EventBusName=self._name, Targets=[dict(target)])
        if answer.get("FailedEntryCount"):
            reason = answer["FailedEntries"][0].get("ErrorMessage", "no reason given")
            raise UnavailableError(f"EventBridge did not take the target of rule {name}: {reason}")
