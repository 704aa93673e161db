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
