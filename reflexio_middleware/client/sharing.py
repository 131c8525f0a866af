"""What users share: agent playbooks made of what they agree on, and who wants to take no part."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Literal

from reflexio_middleware.client.core import Core, named
from reflexio_middleware.learning.aggregate import AGGREGATE, Aggregate
from reflexio_middleware.learning.setup import aggregate_of
from reflexio_store.contract import JobState
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import AggregationOperation, AggregationResponse

_PREFIX: Final = "aggregate:"
_MOST: Final = 200  # characters of an agent_version here (wire fact)


class SharingApi(Core):
    """The part of the client that makes agent playbooks of what users agree on, and knows who opted out."""

    @cached_property
    def _aggregate(self) -> Aggregate:
        return aggregate_of(self.settings, self._embedder)

    def run_playbook_aggregation(
        self,
        agent_version: str = "",
        playbook_name: str = "",  # noqa: ARG002 - accepted for compatibility: ignored there, too
        wait_for_response: bool = True,
    ) -> AggregationResponse:
        """Look now for rules that enough users of a version share.

        Args:
            agent_version: The version; ``""``: the setting ``agent_version``.
            playbook_name: Accepted for compatibility.
            wait_for_response: Do it before returning; else it is left to the worker.

        Raises:
            InvalidInputError: The version is no text of 1 to 200 characters.
            ExtractionError: Rules are compared by meaning (see ``embedder``), and the embedder failed.
        """
        version = self._version("agent_version", agent_version or self.settings.agent_version)
        if not wait_for_response:
            self.submit_playbook_aggregation(version)
            return AggregationResponse(message="The aggregation was asked for")
        done = self._aggregate.run(self._settled(), version)
        told = f"{done['added']} added, {done['updated']} updated, {done['retired']} retired"
        message = f"{done['clusters']} cluster(s) of rules: {told}"
        return AggregationResponse(
            message=message, added=done["added"], updated=done["updated"], retired=done["retired"]
        )

    def submit_playbook_aggregation(self, agent_version: str = "", request_id: str = "") -> AggregationOperation:  # noqa: ARG002
        """Ask the worker to look for rules that enough users of a version share; asking twice is asking once.

        ``request_id`` is accepted for compatibility: an operation is named by its version.
        """
        version = self._version("agent_version", agent_version or self.settings.agent_version)
        store = self._settled()
        store.put_job(AGGREGATE, version)
        store.hasten_jobs(AGGREGATE, user_id="", key=version)
        if self._worker:
            self._worker.wake()
        return self.get_playbook_aggregation_operation(_PREFIX + version)

    def get_playbook_aggregation_operation(self, operation_id: str) -> AggregationOperation:
        """Where an aggregation stands that was asked for.

        Raises:
            InvalidInputError: There is none of that id.
        """
        found: list[JobState] = []
        if isinstance(operation_id, str) and operation_id.startswith(_PREFIX):
            found = self.store.job_states(AGGREGATE, user_id="", key=operation_id.removeprefix(_PREFIX))
        if not found:
            problem = ("operation_id", f"{operation_id!r} names no aggregation that was asked for")
            raise InvalidInputError("The call was refused", [problem])
        state = found[0]
        result = {name: value for name, value in state.result.items() if isinstance(value, int)}
        return AggregationOperation(
            operation_id=operation_id, status=_status(state), attempts=state.attempts, error=state.last_error,
            result=result,
        )  # fmt: skip

    def promote_agent_playbooks(self, from_version: str, to_version: str) -> int:
        """Copy the approved agent playbooks of one version to another, where they are approved as well; how many were
        new there. They go on resting on what their users say: they are retired when too few of these are left."""
        versions = self._version("from_version", from_version), self._version("to_version", to_version)
        if versions[0] == versions[1]:
            raise InvalidInputError("The call was refused", [("to_version", "must be another version")])
        return self._settled().promote_shared(*versions)

    def opt_out(self, user_id: str) -> bool:
        """Learn nothing more of a user, recall nothing personal for them, and let what they said support nothing that
        is shared; False if it was so already. It lasts until :meth:`opt_in`, also through :meth:`clear_user_data`.

        Turns are still stored, and what was learned stays (:meth:`clear_user_data` deletes it).
        """
        return self._settled().opt_out(named("user_id", user_id))

    def opt_in(self, user_id: str) -> bool:
        """Learn of a user again; False if they had not opted out."""
        return self.store.opt_in(named("user_id", user_id))

    def opted_out(self, user_id: str) -> bool:
        """Whether a user opted out."""
        return self.store.opted_out(named("user_id", user_id))

    def _version(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not 1 <= len(value.strip()) <= _MOST:
            raise InvalidInputError("The call was refused", [(name, f"must be text of 1 to {_MOST} characters")])
        return value.strip()


def _status(state: JobState) -> Literal["queued", "running", "retrying", "succeeded", "failed"]:
    if state.state == "ready":
        return "retrying" if state.last_error else "queued"
    return {"running": "running", "done": "succeeded"}.get(state.state, "failed")  # type: ignore[return-value]
