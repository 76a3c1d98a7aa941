"""The schemas of the manifests: Kubernetes' own, KubeRay's fields that we use, KubeRay's own on request."""

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.31"
"""Fields that are newer than this version are refused."""

Manifest = dict[str, Any]


def closed(*required: str, **fields: Any) -> Manifest:
    """A schema of an object that has no other fields."""
    return {"type": "object", "required": list(required), "properties": fields, "additionalProperties": False}


TEXT, COUNT, MAPPING = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
GROUP = {"rayStartParams": TEXTS, "template": closed("spec", metadata=MAPPING, spec=MAPPING)}
KUBERAY = {
    "RayCluster": closed(
        "rayVersion",
        "authOptions",
        "headGroupSpec",
        "workerGroupSpecs",
        rayVersion=TEXT,
        authOptions=closed("mode", "secretName", mode={"const": "token"}, secretName=TEXT),
        enableInTreeAutoscaling={"type": "boolean"},
        autoscalerOptions=closed(
            version={"enum": ["v1", "v2"]},
            idleTimeoutSeconds=COUNT,
            securityContext=MAPPING,
            resources=MAPPING,
        ),
        headGroupSpec=closed(*GROUP, **GROUP),
        workerGroupSpecs={
            "type": "array",
            "items": closed(
                "groupName",
                "replicas",
                "minReplicas",
                "maxReplicas",
                *GROUP,
                groupName=TEXT,
                replicas=COUNT,
                minReplicas=COUNT,
                maxReplicas=COUNT,
                **GROUP,
            ),
        },
    ),
    "RayJob": closed(
        "clusterSelector",
        "entrypoint",
        "submitterPodTemplate",
        clusterSelector=closed("ray.io/cluster", **{"ray.io/cluster": TEXT}),
        entrypoint=TEXT,
        submitterConfig=closed(backoffLimit=COUNT),
        submitterPodTemplate=GROUP["template"],
    ),
}
"""The fields of KubeRay that our manifests use; its own definitions (--crds) know all of them."""


def schema_mistake(schema: Manifest, obj: Any) -> str | None:
    """The most telling difference between an object and a schema."""
    return told(jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(obj)))


def told(error: jsonschema.ValidationError | None) -> str | None:
    """A schema's complaint as a place and a reason of one line."""
    if error is None:
        return None
    place = ".".join(map(str, error.absolute_path)) or "the object"
    reason = error.message if len(error.message) < 200 else f"{error.message[:200]} ..."
    return f"{place}: {reason}"


def core_mistake(obj: Manifest) -> str | None:
    """What Kubernetes' own schema refuses."""
    try:
        kubernetes_validate.validate(obj, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return told(error)
    except kubernetes_validate.SchemaNotFoundError:
        return f"Kubernetes {KUBERNETES} has no {obj['kind']} of {obj['apiVersion']}"
    return None


def read_crds(folder: Path) -> dict[str, Manifest]:
    """KubeRay's own definitions, as schemas that refuse unknown fields, as kubectl does."""

    def close(schema: Any) -> Any:
        if isinstance(schema, list):
            return [close(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        inner = {key: close(value) for key, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            if not schema.get("x-kubernetes-preserve-unknown-fields"):
                inner.setdefault("additionalProperties", False)
        return inner

    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for crd in yaml.load_all(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if not crd or crd.get("kind") != "CustomResourceDefinition":
                continue
            for version in crd["spec"]["versions"]:
                if version["name"] == "v1" and crd["spec"]["names"]["kind"] in KUBERAY:
                    schema = close(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = MAPPING
                    found[crd["spec"]["names"]["kind"]] = schema
    return found
