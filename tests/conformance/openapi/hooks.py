"""What schemathesis can't know of the server: what is deployed, and what texts of a format are."""

import os
import re

import schemathesis
from hypothesis import strategies

NAME = re.compile("[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
ADMIN = os.environ.get("QUERN_TOKEN_ID")
DEPLOYED = {"/v1/functions/": ("digits", "types"), "/v1/models/": ("digits-mlp",)}

schemathesis.openapi.format("period", strategies.integers(1, 3650).map("{}d".format))
schemathesis.openapi.format("steps", strategies.integers(1, 99).map("{}% 10m, 100%".format))

# No pattern says which fields of cron make sense together, or which zones and paths there are.
FIELDS = (
    ["0", "*", "*/15", "7,37", "30-45"],
    ["*", "4", "*/6", "9-17"],
    ["*", "1", "1-15", "13"],
    ["*", "JAN", "3,9", "1-6"],
    ["*", "MON-FRI", "0", "5"],
)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia"]
PATHS = [
    "/v2/models/digits/infer",
    "/v2/models/digits-mlp/infer?trace=1",
    "/v2/models/digits-mlp/versions/1/infer",
    "/f/absent/daily?day=1",
]
cron = strategies.tuples(*map(strategies.sampled_from, FIELDS)).map(" ".join)
schemathesis.openapi.format("cron", cron)
schemathesis.openapi.format("time-zone", strategies.sampled_from(ZONES))
schemathesis.openapi.format("called-path", strategies.sampled_from(PATHS))


# A model takes POST alone, and how often, for how long and with how much a call is made is bounded by
# the server.
REFUSED = re.compile("field `(path` can't be called: .* but POST$|(headers|max_attempts|max_age)` )")


@schemathesis.check
def schedules_are_refused_for_what_no_schema_says(ctx, response, case):
    """A schedule that fits its schema is refused for what its fields are together, or for a limit."""
    is_schedule = case.operation.definition.raw.get("operationId") == "putSchedule"
    if is_schedule and case.meta.generation.mode.is_positive and response.status_code == 400:
        detail = response.json()["detail"]
        assert REFUSED.match(detail), detail


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Of the names that could be some, half are of what is deployed, unless it would be removed."""
    name = (path_parameters or {}).get("name")
    if context.operation.method == "delete" or not NAME.fullmatch(str(name)) or len(name) % 2:
        return path_parameters
    for prefix, names in DEPLOYED.items():
        if context.operation.path.startswith(prefix):
            return {**path_parameters, "name": names[len(name) // 2 % len(names)]}
    return path_parameters


@schemathesis.hook
def filter_path_parameters(context, path_parameters):
    """The token that everything is asked with stays."""
    return ADMIN is None or (path_parameters or {}).get("id") != ADMIN
