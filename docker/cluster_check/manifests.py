"""The manifests: read, and compared with their schemas."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from schemas import KUBERAY, MAPPING, TEXT, Manifest, closed, core_mistake, schema_mistake

DOCKER = Path(__file__).resolve().parents[1]
ON_DEMAND = {"study.yaml"}
"""Manifests that kustomization.yaml does not list."""


class Files:
    """What is under docker/, and the mistakes in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mistakes: list[str] = []
        self.objects: list[tuple[str, Manifest]] = []  # with the names of their files
        self.compose: Manifest = yaml.safe_load((DOCKER / "compose.yaml").read_text())
        lock = (DOCKER.parent / "requirements.lock").read_text()
        self.ray_version = re.findall(r"(?m)^ray==([\d.]+)", lock)[0]

    def wrong(self, place: str, text: str) -> None:
        """Notes a mistake, in one line."""
        line = f"{place}: {' '.join(text.split())}"
        if line not in self.mistakes:
            self.mistakes.append(line)

    def named(self, kind: str) -> dict[str, Manifest]:
        """The objects of a kind, by name."""
        return {obj["metadata"]["name"]: obj for _, obj in self.objects if obj["kind"] == kind}

    def of_kind(self, kind: str) -> Iterator[tuple[str, Manifest]]:
        """The objects of a kind, each with its place."""
        for file, obj in self.objects:
            if obj["kind"] == kind:
                yield f"{file}: {kind} {obj['metadata']['name']}", obj

    def pods(self) -> Iterator[tuple[str, Manifest, Manifest]]:
        """Each pod template, with the place of its object and the object itself."""
        for file, obj in self.objects:
            spec, place = obj.get("spec", {}), f"{file}: {obj['kind']} {obj['metadata']['name']}"
            if obj["kind"] in ("Deployment", "StatefulSet"):
                yield place, spec["template"], obj
            elif obj["kind"] == "RayJob":
                yield place, spec["submitterPodTemplate"], obj
            elif obj["kind"] == "RayCluster":
                yield f"{place}, head", spec["headGroupSpec"]["template"], obj
                for group in spec["workerGroupSpecs"]:
                    yield f"{place}, group {group['groupName']}", group["template"], obj


def without_nulls(value: Any) -> Any:
    """A field without a value is no field, and an entry without one an empty object, as for Kubernetes."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [{} if inner is None else without_nulls(inner) for inner in value]
    return value


def read(files: Files) -> None:
    """Reads the manifests, and compares them with the list in kustomization.yaml."""
    folder = files.folder / "kubernetes"
    listed: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            documents = [
                without_nulls(one) for one in yaml.safe_load_all(path.read_text()) if one is not None
            ]
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f"line {mark.line + 1}: " if mark else ""
            files.wrong(path.name, f"{line}no YAML: {getattr(error, 'problem', error)}")
            continue
        for document in documents:
            if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
                files.wrong(path.name, "no object with a kind")
            elif document["kind"] == "Kustomization":
                listed = document.get("resources", [])
                if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
                    files.wrong(path.name, "resources: no list of files")
                    listed = []
            elif not (isinstance(document.get("metadata"), dict) and document["metadata"].get("name")):
                files.wrong(path.name, f"{document['kind']}: no metadata.name")
            else:
                files.objects.append((path.name, document))
    there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"} - ON_DEMAND
    for name in sorted(set(listed) - there):
        files.wrong("kustomization.yaml", f"lists {name}, which is not there")
    for name in sorted(there - set(listed)):
        files.wrong("kustomization.yaml", f"does not list {name}")


def check_schemas(files: Files, crds: dict[str, Manifest]) -> None:
    """Compares every object with the schema of its kind: KubeRay's objects, and the pods in them."""
    for file, obj in files.objects:
        place, kind = f"{file}: {obj['kind']} {obj['metadata']['name']}", obj["kind"]
        if not isinstance(obj.get("apiVersion"), str) or not isinstance(obj.get("spec"), dict):
            files.wrong(place, "an object needs an apiVersion and a spec")
        elif kind not in KUBERAY:
            if mistake := core_mistake(obj):
                files.wrong(place, mistake)
        else:
            own = closed(
                "spec", apiVersion={"const": "ray.io/v1"}, kind=TEXT, metadata=MAPPING, spec=KUBERAY[kind]
            )
            mistake = schema_mistake(own, obj) or (schema_mistake(crds[kind], obj) if crds else None)
            if mistake:
                files.wrong(place, mistake)
    if files.mistakes:
        return
    for place, pod, obj in files.pods():
        if not pod.get("spec", {}).get("containers"):
            files.wrong(place, "a pod needs a container")
        elif obj["kind"] in KUBERAY:
            wrapped = {
                "apiVersion": "v1",
                "kind": "PodTemplate",
                "metadata": {"name": "pod"},
                "template": pod,
            }
            if mistake := core_mistake(wrapped):
                files.wrong(place, mistake)
