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

    def ensure(self, arn: str, trust: Mapping[str, Any], policy: Mapping[str, Any]) -> bool:
        """The role exists afterwards, trusts exactly these services and may do exactly this; ``True`` if it is new.

        Raises:
            ConflictError: a role of that name is below another path; it was not touched.
        """
        path, name = f"/{arn.partition(':role/')[2]}".rsplit("/", 1)
        is_new = True
        try:
            with translated(f"creating role {name}"):
                self._client.create_role(Path=f"{path}/", RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        except ConflictError:
            is_new = False
            self._check_path(arn, name)
            with translated(f"updating the trust of role {name}"):
                self._client.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        with translated(f"writing the policy of role {name}"):
            self._client.put_role_policy(RoleName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(policy))
        return is_new

    def _check_path(self, arn: str, name: str) -> None:
        """Names are unique in an account, whatever the path; everything else goes by the ARN."""
        with translated(f"looking for role {name}"):
            found = str(self._client.get_role(RoleName=name)["Role"]["Arn"])
        if found != arn:
            raise ConflictError(f"the role {name} is {found}, not {arn}", f"Set EDGEWRIGHT_ROLE_ARN={found}.")
