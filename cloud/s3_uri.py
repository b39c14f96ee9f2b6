"""Where something lies in S3, as a value: what the domain and the adapter both speak of. Pure; contacts nothing."""

from dataclasses import dataclass

from cloud.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class S3Uri:
    """``s3://bucket/key``; a key that ends in ``/`` is a prefix."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "S3Uri":
        """The inverse of ``str()``.

        Raises:
            InvalidInputError: not an S3 URI.
        """
        scheme, _, rest = text.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise InvalidInputError(f"{text!r} is not an S3 URI", "Write s3://bucket/key.")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> "S3Uri":
        """A key below this prefix."""
        return S3Uri(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))
