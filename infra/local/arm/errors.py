"""What Azure answers when it refuses: status, code and message of the error envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPE = "Microsoft.ContainerInstance/containerGroups"
GATEWAY = {"x-ms-failure-cause": "gateway"}
SERVICE = {"x-ms-failure-cause": "service"}


class ArmError(Exception):
    """A refusal. ``body`` is the envelope as Azure sends it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}


def resource_not_found(resource_group: str, name: str) -> ArmError:
    return ArmError(
        404,
        "ResourceNotFound",
        f"The Resource '{TYPE}/{name}' under resource group '{resource_group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        GATEWAY,
    )


def container_group_not_found(name: str) -> ArmError:
    """What the provider says shortly after a deletion, while Resource Manager still asks it."""
    return ArmError(404, "ContainerGroupNotFound", f"The container group '{name}' does not exist.")


def resource_group_not_found(name: str) -> ArmError:
    return ArmError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.", GATEWAY)


def subscription_not_found(subscription: str) -> ArmError:
    return ArmError(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.", GATEWAY)


def transitioning(name: str) -> ArmError:
    return ArmError(
        409,
        "ContainerGroupTransitioning",
        f"The container group '{name}' is still transitioning, please retry later.",
    )


def quota_reached(kind: str, location: str, *, limit: float, used: float, wanted: float) -> ArmError:
    return ArmError(
        400,
        "ContainerGroupQuotaReached",
        f"Resource type '{TYPE}' container group quota '{kind}' exceeded in region '{location}'. "
        f"Limit: '{limit:g}', Usage: '{used:g}' Requested: '{wanted:g}'.",
    )


def no_capacity_message(location: str, cpu: float, memory_gb: float, os_type: str) -> str:
    return (
        f"The requested resource is not available in the location '{location}' at this moment. Please retry with a "
        f"different resource request or in another location. Resource requested: '{cpu:g}' CPU '{memory_gb:g}' GB "
        f"memory '{os_type}' OS"
    )


def no_capacity(location: str, cpu: float, memory_gb: float, os_type: str) -> ArmError:
    return ArmError(409, "ServiceUnavailable", no_capacity_message(location, cpu, memory_gb, os_type))


def inaccessible_image(image: str, name: str) -> ArmError:
    return ArmError(
        400,
        "InaccessibleImage",
        f"The image '{image}' in container group '{name}' is not accessible. "
        "Please check the image and registry credential.",
    )


def dns_label_taken(label: str, name: str) -> ArmError:
    return ArmError(
        400,
        "DnsNameLabelNotAvailable",
        f"The DNS name label '{label}' in container group '{name}' not available. Try using a different label.",
    )


def registry_error() -> ArmError:
    return ArmError(
        409,
        "RegistryErrorResponse",
        "An error response is received from the docker registry 'index.docker.io'. Please retry later.",
    )


def invalid_update(name: str) -> ArmError:
    return ArmError(
        400,
        "InvalidContainerGroupUpdate",
        f"The updates on container group '{name}' are invalid. If you are going to update the os type, restart policy, "
        "network profile, CPU, memory or GPU resources for a container group, you must delete it first and then create "
        "a new one.",
    )


def gateway_timeout() -> ArmError:
    return ArmError(
        504,
        "GatewayTimeout",
        "The gateway did not receive a response from 'Microsoft.ContainerInstance' within the specified time period.",
        SERVICE,
    )


def internal_error(activity: str, correlation: str) -> ArmError:
    return ArmError(
        500,
        "InternalServerError",
        f"Encountered an internal server error. The tracking activity id is '{activity}', "
        f"correlation id is '{correlation}'.",
        SERVICE,
    )


def service_unavailable() -> ArmError:
    return ArmError(503, "ServerUnavailable", "The service is temporarily unavailable, please retry later.", SERVICE)


def throttled(kind: str, subscription: str, actor: str, retry_after_s: int) -> ArmError:
    """Resource Manager's own limit: ``kind`` is read, write or delete."""
    return ArmError(
        429,
        "SubscriptionRequestsThrottled",
        f"Number of '{kind}' requests for subscription '{subscription}' actor '{actor}' exceeded. "
        f"Please try again after '{retry_after_s}' seconds.",
        {"retry-after": str(retry_after_s)},
    )


def provider_throttled(retry_after_s: int) -> ArmError:
    """The provider's limit of creations and deletions. How Azure words it is not known: no recording shows one."""
    return ArmError(
        429,
        "TooManyRequests",
        f"The rate limit of '{TYPE}' was exceeded. Please try again after '{retry_after_s}' seconds.",
        {"retry-after": str(retry_after_s)},
    )


def forbidden(actor: str, action: str, scope: str) -> ArmError:
    return ArmError(
        403,
        "AuthorizationFailed",
        f"The client '{actor}' with object id '{actor}' does not have authorization to perform action '{action}' over "
        f"scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
        GATEWAY,
    )


def unauthenticated(code: str, message: str, reason: str) -> ArmError:
    challenge = (
        f'Bearer authorization_uri="https://login.windows.net/", error="invalid_token", error_description="{reason}"'
    )
    return ArmError(401, code, message, {"www-authenticate": challenge, **GATEWAY})
