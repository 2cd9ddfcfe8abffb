"""What can be the matter, by name: how grave it is, what it means and what to do about it. Pure.

One table for everybody who shows a condition: the API, the command line, the dashboard, the metrics and
``docs/conditions.md``, which a test holds against it. The message of a condition is

    <what it is about>: <the meaning>: <what was seen>
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from scaler.model import Condition, GroupDetail, Severity

SHOWN_S = 900.0  # how long something that happened is shown
KILLED = 137  # a process that was killed; on a container group the usual killer is the memory limit
REGISTRY_SAYS_NO = ("unauthorized", "authentication required", "denied", "credential", "forbidden")


class Kind(Struct, frozen=True):
    """One named condition. ``meaning`` and ``remedy`` are whole sentences without their full stop."""

    severity: Severity
    meaning: str
    remedy: str


KINDS: Mapping[str, Kind] = {
    # -- a replica does not start
    "image_pull": Kind(
        "error",
        "its image cannot be pulled",
        "Check name and tag of the image in the template, and that the registry answers from Azure; "
        "`az acr repository show-tags` lists what there is",
    ),
    "registry_credentials": Kind(
        "error",
        "the registry refuses the credentials",
        "Give the user-assigned identity in the template the role AcrPull on the registry, or renew the password in "
        "`imageRegistryCredentials`; a system-assigned identity cannot pull",
    ),
    "registry_failure": Kind(
        "warning",
        "the registry fails or limits pulls",
        "Keep the image in a registry of your own in the same region; Docker Hub limits anonymous pulls",
    ),
    "wrong_port": Kind(
        "error",
        "its container runs, and nothing answers at the replica's port",
        "Let the server listen on 0.0.0.0 and the port that the template names first; it is given in PORT",
    ),
    "out_of_memory": Kind(
        "error",
        "it was killed, most likely for memory",
        "Raise `memoryInGB` in the template, or lower the batch size or the number of workers of the server",
    ),
    "crash_loop": Kind(
        "error",
        "its container ends again and again",
        "`az container logs` shows what the server said; start the image locally with the same variables",
    ),
    "stopped": Kind(
        "error",
        "its container no longer runs",
        "`az container logs` shows why it ended; a replica that is needed is replaced",
    ),
    "slow_start": Kind(
        "error",
        "it was not ready within the start deadline",
        "Look at the phases of past starts in `status`; make image and model smaller, or raise `start.deadline_s`",
    ),
    "start_failed": Kind(
        "error",
        "Azure could not start it",
        "`az container show` has the events; if they say nothing, another region often works",
    ),
    "silent": Kind(
        "warning",
        "it gives no answer while its neighbours do",
        "Nothing to do: it is replaced. If it happens often, look at its log for long pauses or too little CPU",
    ),
    "cut_off": Kind(
        "warning",
        "the drain deadline passed while it had requests in hand, or said nothing of them",
        "Look in its log for requests that hang. If they are only slow, raise `scale_in.drain_deadline_s`",
    ),
    "repairing": Kind(
        "info",
        "Azure repairs the host under it",
        "Nothing to do: it comes back, or is replaced when it stays silent",
    ),
    "vanished": Kind(
        "warning",
        "it was deleted by somebody else",
        "Nothing to do: a replica that is needed is replaced. The activity log says who deleted it",
    ),
    "unknown_group": Kind(
        "info",
        "it carries our tags and no row knew it, so it is taken over",
        "Nothing to do: it is used where a replica is missing, and leaves where none is",
    ),
    "place_lost": Kind(
        "error",
        "it is in a place that AUTOSCALER_PLACES no longer names: it is neither seen nor deleted, and billed",
        "Name the place there again, and its region in no `regions`, until its replicas are gone",
    ),
    # -- Azure does not let us
    "quota": Kind(
        "error",
        "the quota of the region is used up",
        "Ask for more in the portal under Quotas (Container Instances), delete what is not needed, or add a region",
    ),
    "no_capacity": Kind(
        "warning",
        "Azure has no room there for a replica of this size",
        "Nothing to do if another region is configured; else add one to `regions`, or ask for less CPU or memory",
    ),
    "throttled": Kind(
        "warning",
        "Azure asks us to send fewer requests",
        "Nothing to do: we wait as long as Azure says. If it lasts, look for others that use the same subscription",
    ),
    "rate_budget": Kind(
        "info",
        "as many groups were created or deleted as Azure allows (100 in 5 minutes, 300 in an hour)",
        "Nothing to do: the rest follows. If it happens often, lengthen `scale_in.window_s` or add a region",
    ),
    "azure_fails": Kind(
        "warning",
        "Azure answers with errors of its own, or not at all",
        "Nothing to do: it is tried again. status.azure.com and the service health page tell of known outages",
    ),
    "permission": Kind(
        "error",
        "Azure does not let the autoscaler do this",
        "Give its identity the role that the message names; it takes effect within minutes",
    ),
    "refused": Kind(
        "error",
        "Azure refuses the template",
        "The message says which field; mend the template and deploy it",
    ),
    "nowhere": Kind(
        "error",
        "every configured region waits, so nothing can be created",
        "Add a region to `regions`; the conditions of each region say what is wrong there",
    ),
    # -- what is not known
    "blind": Kind(
        "error",
        "Azure does not list the container groups: nothing is created or deleted on that account",
        "`python -m scaler doctor` shows which permission or endpoint fails",
    ),
    "unanswered": Kind(
        "error",
        "no ready replica answers /stats, so load is not known and nothing is scaled in",
        "Check that the function app reaches the replicas' address and port, and that REPLICA_TOKEN and "
        "REPLICA_AUTHORITY are still those that they were made with",
    ),
    "front_silent": Kind(
        "warning",
        "the front has not written its row for a while, so requests that wait at zero are not seen",
        "Look at the container group of Envoy and discovery; replicas that are ready go on serving",
    ),
    "missed_ticks": Kind(
        "warning",
        "ticks were missed",
        "Look at the function app: is it stopped, is the function `tick` enabled, does its log show errors?",
    ),
    # -- money
    "budget": Kind(
        "warning",
        "it is nearly spent, or will be before the month ends",
        "Raise `budget` or lower `replicas.max`; near the end of a limit it caps the count, at its end to none",
    ),
    # -- rollouts
    "rollout_returned": Kind(
        "error",
        "the new version was taken back",
        "Mend it and deploy again, or `python -m scaler rollout SERVICE --retry` to try the same once more",
    ),
    "rollout_waits": Kind(
        "info",
        "a rollout waits",
        "Nothing to do if it passes; `python -m scaler rollout SERVICE` says what it waits for",
    ),
    "version_lost": Kind(
        "error",
        "the version that should run can no longer be made",
        "Its secrets are kept nowhere but in the template file: deploy that version's template again",
    ),
    # -- cold starts
    "pull_dominates": Kind(
        "info",
        "more than half of a cold start goes into pulling the image",
        "Make the image smaller, keep it in a registry in the same region, or configure `standby_pool`",
    ),
    "standby_pool": Kind(
        "warning",
        "the standby pool could not be used, so replicas start the slow way",
        "Check the ids under `standby_pool`, that the pool has ready groups, and its provider's roles",
    ),
}
TEMPLATES_FAULT = frozenset(
    {
        "image_pull",
        "registry_credentials",
        "registry_failure",
        "wrong_port",
        "out_of_memory",
        "crash_loop",
        "stopped",
        "slow_start",
        "start_failed",
        "refused",
        "version_lost",
    }
)
CAUSES: Mapping[str, str] = {  # what an error code, of Azure or of our own, means
    "InaccessibleImage": "image_pull",
    "RegistryErrorResponse": "registry_failure",
    "ContainerGroupQuotaReached": "quota",
    "QuotaExceeded": "quota",
    "ServiceUnavailable": "no_capacity",
    "InsufficientCapacity": "no_capacity",
    "InsufficientCapacity.": "no_capacity",
    "StartDeadline": "slow_start",
    "NoAnswer": "wrong_port",
    "StartFailed": "start_failed",
    "CrashLoop": "crash_loop",
    "OutOfMemory": "out_of_memory",
    "Stopped": "stopped",
    "Silent": "silent",
    "AuthorizationFailed": "permission",
    "LinkedAuthorizationFailed": "permission",
    "StandbyPool": "standby_pool",
    "VersionLost": "version_lost",
    "PlaceLost": "place_lost",
    "ContainerGroupTransitioning": "azure_fails",
    "InternalServerError": "azure_fails",
}


def condition(name: str, at: float, *, about: str, said: str = "", until: float | None = None) -> Condition:
    """The condition of that name about a replica, a region or a service; ``said`` is what was seen."""
    kind = KINDS[name]
    message = f"{about}: {kind.meaning}" + (f": {said}" if said else "")
    return Condition(
        name=name,
        severity=kind.severity,
        about=about,
        message=message.rstrip(".") + ".",
        remedy=f"{kind.remedy}." if kind.remedy[-1] not in ".?" else kind.remedy,
        since=at,
        until=until,
    )


def happened(name: str, at: float, *, about: str, said: str = "") -> Condition:
    """The same for something that is over; it is shown for a while."""
    return condition(name, at, about=about, said=said, until=at + SHOWN_S)


def cause(code: str, said: str = "") -> str:
    """The name of the condition that an error code means; ``said`` tells a registry's refusal from a missing image."""
    if code in ("InaccessibleImage", "RegistryErrorResponse"):
        # Azure ends every InaccessibleImage with "check the image and registry credential": that alone says nothing.
        told = said.lower().replace("please check the image and registry credential", "")
        if any(word in told for word in REGISTRY_SAYS_NO):
            return "registry_credentials"
    if code in CAUSES:
        return CAUSES[code]
    if "Throttled" in code or "TooManyRequests" in code or code == "HTTP 429":
        return "throttled"
    return "refused"


def blames_template(code: str) -> bool:
    """Whether the failure lies in what a replica is made from: another region would not help, another version might."""
    return cause(code) in TEMPLATES_FAULT


def container_trouble(detail: GroupDetail | None) -> tuple[str, str] | None:
    """Code and words for what a container group says is wrong with its first container; None: nothing."""
    if detail is None:
        return None
    if detail.exit_code == KILLED and (detail.restart_count or detail.container_state == "Terminated"):
        return "OutOfMemory", f"exit code {KILLED}, {detail.restart_count} restarts"
    if (detail.detail or "").startswith("CrashLoopBackOff"):
        return "CrashLoop", f"exit code {detail.exit_code}, {detail.restart_count} restarts"
    for event in reversed(detail.events):
        if event.startswith("Failed") and "pull" in event.lower():
            return "InaccessibleImage", event
    return None
