"""Who may do what: one table of actions, with the scope and the reach that each asks for, and its one reading. Pure.

Every route of every face names one of these actions; doors ask `authorise` about the object at hand. Nobody else
decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stoker.domain.access import Principal, Scope, reach
from stoker.domain.endpoint import FIRST_PROJECT, EndpointId, ProjectId
from stoker.domain.errors import Forbidden, NotFound


class Action(StrEnum):
    """Everything that can be asked of Stoker. Faces map their routes to these."""

    ENDPOINT_CREATE = "endpoint.create"
    ENDPOINT_LIST = "endpoint.list"
    ENDPOINT_READ = "endpoint.read"
    ENDPOINT_REVEAL = "endpoint.reveal"
    ENDPOINT_PLAN = "endpoint.plan"
    ENDPOINT_UPDATE = "endpoint.update"
    ENDPOINT_SCALE = "endpoint.scale"
    ENDPOINT_START = "endpoint.start"
    ENDPOINT_STOP = "endpoint.stop"
    ENDPOINT_DELETE = "endpoint.delete"
    RESERVATION_CREATE = "reservation.create"
    RESERVATION_LIST = "reservation.list"
    RESERVATION_READ = "reservation.read"
    RESERVATION_RELEASE = "reservation.release"
    SHELL_USE = "shell.use"
    PROJECT_CREATE = "project.create"
    PROJECT_LIST = "project.list"
    PROJECT_READ = "project.read"
    PROJECT_UPDATE = "project.update"
    PROJECT_DELETE = "project.delete"
    KEY_CREATE = "key.create"
    KEY_LIST = "key.list"
    KEY_READ = "key.read"
    KEY_UPDATE = "key.update"
    KEY_REVOKE = "key.revoke"
    KEY_REVEAL = "key.reveal"
    SECRET_CREATE = "secret.create"
    SECRET_LIST = "secret.list"
    SECRET_READ = "secret.read"
    SECRET_UPDATE = "secret.update"
    SECRET_DELETE = "secret.delete"
    SECRET_REVEAL = "secret.reveal"
    SECRET_USE = "secret.use"
    MASTER_KEY_READ = "master_key.read"
    MASTER_KEY_ROTATE = "master_key.rotate"
    CREDENTIAL_CREATE = "credential.create"
    CREDENTIAL_LIST = "credential.list"
    CREDENTIAL_READ = "credential.read"
    CREDENTIAL_UPDATE = "credential.update"
    CREDENTIAL_DELETE = "credential.delete"
    MODEL_CREATE = "model.create"
    MODEL_LIST = "model.list"
    MODEL_READ = "model.read"
    MODEL_UPDATE = "model.update"
    MODEL_PULL = "model.pull"
    MODEL_DELETE = "model.delete"
    MODEL_PRUNE = "model.prune"
    TEMPLATE_CREATE = "template.create"
    TEMPLATE_LIST = "template.list"
    TEMPLATE_READ = "template.read"
    TEMPLATE_DELETE = "template.delete"
    VOLUME_CREATE = "volume.create"
    VOLUME_LIST = "volume.list"
    VOLUME_READ = "volume.read"
    VOLUME_UPDATE = "volume.update"
    VOLUME_DELETE = "volume.delete"
    TASK_SUBMIT = "task.submit"
    TASK_READ = "task.read"
    TASK_CANCEL = "task.cancel"
    QUEUE_CHANGE = "queue.change"
    DELIVERY_READ = "delivery.read"
    DELIVERY_CHANGE = "delivery.change"
    AUDIT_READ = "audit.read"
    USAGE_READ = "usage.read"
    INSTALLATION_READ = "installation.read"


class Reach(StrEnum):
    """How far a key must reach. An object of another project does not exist for any key but one of the installation
    that acts for that project.

    ANYWHERE: any key of the scope. LISTED: a list, of which a limited key sees its part. ENDPOINT: one endpoint; those
    beyond a key's list do not exist for it. KEY: one key, or a new one; a limited key gets at none that reaches
    further than itself. PROJECT: the project as a whole: no limited key. HOST: the machine as well: of another project
    only the installation's keys. INSTALLATION: only the installation's keys.
    """

    ANYWHERE = "anywhere"
    LISTED = "listed"
    ENDPOINT = "endpoint"
    KEY = "key"
    PROJECT = "project"
    HOST = "host"
    INSTALLATION = "installation"


@dataclass(frozen=True, slots=True)
class Row:
    """What an action asks for."""

    scope: Scope
    reach: Reach


TABLE: Mapping[Action, Row] = {
    Action.ENDPOINT_CREATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.ENDPOINT_LIST: Row(Scope.READ, Reach.LISTED),
    Action.ENDPOINT_READ: Row(Scope.READ, Reach.ENDPOINT),
    # The environment of workers: seen by whoever could also set it.
    Action.ENDPOINT_REVEAL: Row(Scope.DEPLOY, Reach.LISTED),
    # Changes nothing, and looks at an endpoint only as far as the caller could change it.
    Action.ENDPOINT_PLAN: Row(Scope.DEPLOY, Reach.LISTED),
    Action.ENDPOINT_UPDATE: Row(Scope.DEPLOY, Reach.ENDPOINT),
    Action.ENDPOINT_SCALE: Row(Scope.DEPLOY, Reach.ENDPOINT),
    Action.ENDPOINT_START: Row(Scope.DEPLOY, Reach.ENDPOINT),
    Action.ENDPOINT_STOP: Row(Scope.DEPLOY, Reach.ENDPOINT),
    Action.ENDPOINT_DELETE: Row(Scope.DEPLOY, Reach.ENDPOINT),
    # Whoever may call an endpoint may say which of its workers takes the call.
    Action.RESERVATION_CREATE: Row(Scope.INVOKE, Reach.ENDPOINT),
    Action.RESERVATION_LIST: Row(Scope.INVOKE, Reach.ENDPOINT),
    Action.RESERVATION_READ: Row(Scope.INVOKE, Reach.ENDPOINT),
    Action.RESERVATION_RELEASE: Row(Scope.INVOKE, Reach.ENDPOINT),
    # To say what runs as Stoker's own user is a shell: it could read the installation's key.
    Action.SHELL_USE: Row(Scope.ADMIN, Reach.HOST),
    Action.PROJECT_CREATE: Row(Scope.ADMIN, Reach.INSTALLATION),
    Action.PROJECT_LIST: Row(Scope.READ, Reach.ANYWHERE),
    Action.PROJECT_READ: Row(Scope.READ, Reach.ANYWHERE),
    Action.PROJECT_UPDATE: Row(Scope.ADMIN, Reach.INSTALLATION),
    Action.PROJECT_DELETE: Row(Scope.ADMIN, Reach.INSTALLATION),
    Action.KEY_CREATE: Row(Scope.ADMIN, Reach.KEY),
    Action.KEY_LIST: Row(Scope.ADMIN, Reach.LISTED),
    Action.KEY_READ: Row(Scope.ADMIN, Reach.KEY),
    Action.KEY_UPDATE: Row(Scope.ADMIN, Reach.KEY),
    Action.KEY_REVOKE: Row(Scope.ADMIN, Reach.KEY),
    Action.KEY_REVEAL: Row(Scope.ADMIN, Reach.KEY),
    Action.SECRET_CREATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.SECRET_LIST: Row(Scope.READ, Reach.PROJECT),
    Action.SECRET_READ: Row(Scope.READ, Reach.PROJECT),
    Action.SECRET_UPDATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.SECRET_DELETE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.SECRET_REVEAL: Row(Scope.ADMIN, Reach.PROJECT),
    # Whoever says what a worker runs could have it print what it is given.
    Action.SECRET_USE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.MASTER_KEY_READ: Row(Scope.ADMIN, Reach.INSTALLATION),
    Action.MASTER_KEY_ROTATE: Row(Scope.ADMIN, Reach.INSTALLATION),
    Action.CREDENTIAL_CREATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.CREDENTIAL_LIST: Row(Scope.READ, Reach.PROJECT),
    Action.CREDENTIAL_READ: Row(Scope.READ, Reach.PROJECT),
    Action.CREDENTIAL_UPDATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.CREDENTIAL_DELETE: Row(Scope.DEPLOY, Reach.PROJECT),
    # A limited key sees the part of its endpoints.
    Action.USAGE_READ: Row(Scope.READ, Reach.LISTED),
    Action.MODEL_CREATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.MODEL_LIST: Row(Scope.READ, Reach.ANYWHERE),
    Action.MODEL_READ: Row(Scope.READ, Reach.ANYWHERE),
    Action.MODEL_UPDATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.MODEL_PULL: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.MODEL_DELETE: Row(Scope.DEPLOY, Reach.PROJECT),
    # What projects have fetched lies together.
    Action.MODEL_PRUNE: Row(Scope.ADMIN, Reach.HOST),
    Action.TEMPLATE_CREATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.TEMPLATE_LIST: Row(Scope.READ, Reach.PROJECT),
    Action.TEMPLATE_READ: Row(Scope.READ, Reach.PROJECT),
    Action.TEMPLATE_DELETE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.VOLUME_CREATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.VOLUME_LIST: Row(Scope.READ, Reach.PROJECT),
    Action.VOLUME_READ: Row(Scope.READ, Reach.PROJECT),
    Action.VOLUME_UPDATE: Row(Scope.DEPLOY, Reach.PROJECT),
    Action.VOLUME_DELETE: Row(Scope.DEPLOY, Reach.PROJECT),
    # Tasks are calls: whoever may call the endpoint has them, with their results.
    Action.TASK_SUBMIT: Row(Scope.INVOKE, Reach.ENDPOINT),
    Action.TASK_READ: Row(Scope.INVOKE, Reach.ENDPOINT),
    Action.TASK_CANCEL: Row(Scope.INVOKE, Reach.ENDPOINT),
    Action.QUEUE_CHANGE: Row(Scope.DEPLOY, Reach.ENDPOINT),
    Action.DELIVERY_READ: Row(Scope.READ, Reach.ENDPOINT),
    Action.DELIVERY_CHANGE: Row(Scope.DEPLOY, Reach.ENDPOINT),
    Action.AUDIT_READ: Row(Scope.ADMIN, Reach.PROJECT),
    Action.INSTALLATION_READ: Row(Scope.READ, Reach.ANYWHERE),
}


def admit(by: Principal, action: Action) -> None:
    """May this caller ask for such a thing at all, whatever the object? Raises `Forbidden`.

    Depends on nothing but the key, so that a refusal says nothing about what exists.
    """
    row = TABLE[action]
    if row.scope not in reach(by.scopes):
        raise Forbidden(f"this needs a key of scope {row.scope}")
    if row.reach in (Reach.PROJECT, Reach.HOST, Reach.INSTALLATION) and by.endpoints is not None:
        raise Forbidden("this key is limited to some endpoints; this needs one of the whole project")
    if row.reach is Reach.INSTALLATION and not by.installation:
        raise Forbidden("this needs a key of the installation, as the one that the first start made")
    # The first project is that of whoever installed Stoker: its admins are trusted with the machine.
    if row.reach is Reach.HOST and not by.installation and by.project != FIRST_PROJECT:
        raise Forbidden("this runs as Stoker's own user, which outside of project 1 needs a key of the installation")


def permits(by: Principal, action: Action) -> bool:
    """The same as a question."""
    try:
        admit(by, action)
    except Forbidden:
        return False
    return True


def authorise(
    by: Principal,
    action: Action,
    *,
    project: ProjectId,
    endpoint: EndpointId | None = None,
    limited_to: frozenset[EndpointId] | None = None,
    what: str = "object",
) -> None:
    """May this caller do it to the object at hand? It is of `project`, it is that `endpoint` or, for a key, it is
    `limited_to` such. Raises `NotFound`, naming `what`, for what does not exist for the caller, `Forbidden` else.
    """
    hidden = project != by.project
    match TABLE[action].reach:
        case Reach.ENDPOINT | Reach.LISTED if endpoint is not None:
            hidden = hidden or (by.endpoints is not None and endpoint not in by.endpoints)
        case Reach.KEY | Reach.LISTED:
            hidden = hidden or (by.endpoints is not None and (limited_to is None or not limited_to <= by.endpoints))
    if hidden:
        raise NotFound(f"no {what}")
    admit(by, action)


def visible(
    by: Principal,
    action: Action,
    *,
    project: ProjectId,
    endpoint: EndpointId | None = None,
    limited_to: frozenset[EndpointId] | None = None,
) -> bool:
    """The same as a question, for lists."""
    try:
        authorise(by, action, project=project, endpoint=endpoint, limited_to=limited_to)
    except (NotFound, Forbidden):
        return False
    return True
