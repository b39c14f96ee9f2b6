"""IAM: one role with one inline policy, exactly as given: what was allowed before and is not any more is taken away.

What the policy says is ``cloud.infrastructure.policies``. A new role takes IAM some seconds to be known everywhere.
"""

import json
from collections.abc import Mapping
from typing import Any

from cloud.aws.session import AwsSession, translated
from cloud.errors import ConflictError

POLICY_NAME = "edgewright"


class Roles:
    """Makes a role, or brings its policies up to date."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("iam")

    def ensure(self, name: str, trust: Mapping[str, Any], policy: Mapping[str, Any]) -> bool:
        """The role exists afterwards, trusts exactly these services and may do exactly this; ``True`` if it is new."""
        is_new = True
        try:
            with translated(f"creating role {name}"):
                self._client.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        except ConflictError:
            is_new = False
            with translated(f"updating the trust of role {name}"):
                self._client.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        with translated(f"writing the policy of role {name}"):
            self._client.put_role_policy(RoleName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(policy))
        return is_new
