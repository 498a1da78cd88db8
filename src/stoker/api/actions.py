"""Which action of the table in `domain.authorisation` each route of the native API is. A route without one is an error
when it is made; what an action asks for is not said here.
"""

from __future__ import annotations

from collections.abc import Mapping

from stoker.domain.authorisation import Action

ROUTES: Mapping[tuple[str, str], Action] = {
    ("POST", "/endpoints"): Action.ENDPOINT_CREATE,
    ("POST", "/endpoints:plan"): Action.ENDPOINT_PLAN,
    ("GET", "/endpoints"): Action.ENDPOINT_LIST,
    ("GET", "/endpoints/{ref}"): Action.ENDPOINT_READ,
    ("PUT", "/endpoints/{ref}"): Action.ENDPOINT_UPDATE,
    ("DELETE", "/endpoints/{ref}"): Action.ENDPOINT_DELETE,
    ("POST", "/endpoints/{ref}:start"): Action.ENDPOINT_START,
    ("POST", "/endpoints/{ref}:stop"): Action.ENDPOINT_STOP,
    ("POST", "/endpoints/{ref}:scale"): Action.ENDPOINT_SCALE,
    ("POST", "/endpoints/{ref}:rollback"): Action.ENDPOINT_UPDATE,
    ("GET", "/endpoints/{ref}/revisions"): Action.ENDPOINT_READ,
    ("GET", "/endpoints/{ref}/workers"): Action.ENDPOINT_READ,
    ("GET", "/endpoints/{ref}/logs"): Action.ENDPOINT_READ,
    ("GET", "/endpoints/{ref}/events"): Action.ENDPOINT_READ,
    ("GET", "/endpoints/{ref}/decisions"): Action.ENDPOINT_READ,
    ("POST", "/endpoints/{ref}/reservations"): Action.RESERVATION_CREATE,
    ("GET", "/endpoints/{ref}/reservations"): Action.RESERVATION_LIST,
    ("GET", "/endpoints/{ref}/reservations/{reservation}"): Action.RESERVATION_READ,
    ("DELETE", "/endpoints/{ref}/reservations/{reservation}"): Action.RESERVATION_RELEASE,
    ("GET", "/workers"): Action.ENDPOINT_LIST,
    ("GET", "/workers/{worker}"): Action.ENDPOINT_READ,
    ("GET", "/workers/{worker}/logs"): Action.ENDPOINT_READ,
    ("GET", "/operations/{operation}"): Action.ENDPOINT_READ,
    ("POST", "/projects"): Action.PROJECT_CREATE,
    ("GET", "/projects"): Action.PROJECT_LIST,
    ("GET", "/projects/{ref}"): Action.PROJECT_READ,
    ("PATCH", "/projects/{ref}"): Action.PROJECT_UPDATE,
    ("DELETE", "/projects/{ref}"): Action.PROJECT_DELETE,
    ("POST", "/keys"): Action.KEY_CREATE,
    ("GET", "/keys"): Action.KEY_LIST,
    ("GET", "/keys/{ref}"): Action.KEY_READ,
    ("PATCH", "/keys/{ref}"): Action.KEY_UPDATE,
    ("DELETE", "/keys/{ref}"): Action.KEY_REVOKE,
    ("GET", "/keys/{ref}/secret"): Action.KEY_REVEAL,
    ("POST", "/secrets"): Action.SECRET_CREATE,
    ("GET", "/secrets"): Action.SECRET_LIST,
    ("GET", "/secrets/{ref}"): Action.SECRET_READ,
    ("PATCH", "/secrets/{ref}"): Action.SECRET_UPDATE,
    ("DELETE", "/secrets/{ref}"): Action.SECRET_DELETE,
    ("GET", "/secrets/{ref}/value"): Action.SECRET_REVEAL,
    ("GET", "/master-key"): Action.MASTER_KEY_READ,
    ("POST", "/master-key:rotate"): Action.MASTER_KEY_ROTATE,
    ("POST", "/registry-credentials"): Action.CREDENTIAL_CREATE,
    ("GET", "/registry-credentials"): Action.CREDENTIAL_LIST,
    ("GET", "/registry-credentials/{ref}"): Action.CREDENTIAL_READ,
    ("PATCH", "/registry-credentials/{ref}"): Action.CREDENTIAL_UPDATE,
    ("DELETE", "/registry-credentials/{ref}"): Action.CREDENTIAL_DELETE,
    ("GET", "/usage"): Action.USAGE_READ,
    ("GET", "/endpoints/{ref}/learned"): Action.ENDPOINT_READ,
    ("GET", "/endpoints/{ref}/metrics"): Action.ENDPOINT_READ,
    ("POST", "/templates"): Action.TEMPLATE_CREATE,
    ("GET", "/templates"): Action.TEMPLATE_LIST,
    ("GET", "/templates/{ref}"): Action.TEMPLATE_READ,
    ("DELETE", "/templates/{ref}"): Action.TEMPLATE_DELETE,
    ("POST", "/volumes"): Action.VOLUME_CREATE,
    ("GET", "/volumes"): Action.VOLUME_LIST,
    ("GET", "/volumes/{ref}"): Action.VOLUME_READ,
    ("PATCH", "/volumes/{ref}"): Action.VOLUME_UPDATE,
    ("DELETE", "/volumes/{ref}"): Action.VOLUME_DELETE,
    ("GET", "/audit"): Action.AUDIT_READ,
    ("GET", "/info"): Action.INSTALLATION_READ,
    ("GET", "/schema"): Action.INSTALLATION_READ,
    ("GET", "/hardware"): Action.INSTALLATION_READ,
    ("POST", "/models"): Action.MODEL_CREATE,
    ("GET", "/models"): Action.MODEL_LIST,
    ("POST", "/models:prune"): Action.MODEL_PRUNE,
    ("GET", "/models/{ref}"): Action.MODEL_READ,
    ("PATCH", "/models/{ref}"): Action.MODEL_UPDATE,
    ("DELETE", "/models/{ref}"): Action.MODEL_DELETE,
    ("POST", "/models/{ref}:pull"): Action.MODEL_PULL,
    ("GET", "/hardware/types"): Action.INSTALLATION_READ,
    ("GET", "/engines"): Action.INSTALLATION_READ,
    ("GET", "/engines/{name}/parameters"): Action.INSTALLATION_READ,
}


def action_of(method: str, path: str) -> Action:
    """Raises `LookupError` for a route that is in no row."""
    action = ROUTES.get((method, path))
    if action is None:
        raise LookupError(f"{method} {path} names no action in stoker.api.actions")
    return action
