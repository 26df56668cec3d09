"""A reload on the operator's command. Under `process` and `parent`, which both offer it."""

from relayd.config.drift import Difference, Drift
from relayd.config.reload import Reloader
from relayd.control.messages import Differences, Reloaded, Secrets
from relayd.errors import ConfigError, ErrorCode, Refusal


class Reloading:
    """The operation `reload` of `site.Operations`.

    Args:
        reloader: reads the configuration again; None in a worker, whose parent does it for all.
        drift: compares it with its files; None in a worker.
    """

    def __init__(self, reloader: Reloader | None, drift: Drift | None) -> None:
        self._reloader = reloader
        self._drift = drift

    def differences(self) -> list[Difference]:
        """What stands in the files and does not run."""
        return [] if self._drift is None else self._drift.find()

    async def compare(self, secrets: Secrets | None) -> Differences:
        """The same, with the secrets as root reads them."""
        if self._drift is None:
            return Differences(found=[])
        return Differences(found=self._drift.find(_known(secrets)))

    async def reload(self, secrets: Secrets | None) -> Reloaded:
        """Reads the configuration again.

        Args:
            secrets: what root hands over; None to use what is known.

        Raises:
            Refusal: 400 if the configuration is wrong (nothing has changed), or in a worker.
        """
        if self._reloader is None:
            raise Refusal(ErrorCode.BAD_REQUEST, "The parent of this worker reloads.")
        try:
            outcome = self._reloader.reload(_known(secrets))
        except ConfigError as error:
            raise Refusal(ErrorCode.BAD_REQUEST, f"nothing has changed: {error}") from error
        return Reloaded.of(outcome)


def _known(secrets: Secrets | None) -> dict[str, str] | None:
    return None if secrets is None else secrets.credentials
