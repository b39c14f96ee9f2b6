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
            ConflictError: a role of that name is below another path, or is that of an installation in another region; it was
                not touched.
        """
        path, name = f"/{arn.partition(':role/')[2]}".rsplit("/", 1)
        is_new = True
        try:
            with translated(f"creating role {name}"):
                self._client.create_role(Path=f"{path}/", RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        except ConflictError:
            is_new = False
            self._check(arn, name, trust)
            with translated(f"updating the trust of role {name}"):
                self._client.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        with translated(f"writing the policy of role {name}"):
            self._client.put_role_policy(RoleName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(policy))
        return is_new

    def _check(self, arn: str, name: str, trust: Mapping[str, Any]) -> None:
        """Names are unique in an account, whatever the path, and everything else goes by the ARN."""
        with translated(f"looking for role {name}"):
            found = self._client.get_role(RoleName=name)["Role"]
        if found["Arn"] != arn:
            raise ConflictError(
                f"the role {name} is {found['Arn']}, not {arn}", f"Set EDGEWRIGHT_ROLE_ARN={found['Arn']}."
            )
        wanted, others = _regions(trust), _regions(found["AssumeRolePolicyDocument"])
        if others and not others & wanted:
            raise ConflictError(
                f"the role {name} is that of an installation in {', '.join(sorted(others))}, which would lose it",
                f"Set EDGEWRIGHT_ROLE_ARN={arn}-{'-'.join(sorted(wanted))}, or remove the role if that installation is gone.",
            )


def _regions(trust: Mapping[str, Any]) -> set[str]:
    """Of the resources on whose behalf services may assume a role; none where its trust has no such condition."""
    stated = trust.get("Statement", ())  # IAM takes one statement without a list, too
    statements = [stated] if isinstance(stated, Mapping) else stated
    sources = [one.get("Condition", {}).get("ArnLike", {}).get("aws:SourceArn") for one in statements]
    return {source.split(":")[3] for source in sources if isinstance(source, str) and source.count(":") >= 5}
