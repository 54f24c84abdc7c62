"""Configs and manifests of images that are made here, as documents.

Owns: writing what `image_config` and `manifest` read, by the same list of members; the same value gives
the same bytes.  Must not: know where any of it comes from.

Spec: image-spec config.md and manifest.md; Docker Image Specification v1.3 for the health check and
the shell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from containerkit.errors import ConfigError
from containerkit.model.descriptor import (
    DOCKER_LAYER,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
)

if TYPE_CHECKING:
    from containerkit.model.image_config import HistoryEntry, ImageConfig, ImageHealthcheck


def encode_config(config: ImageConfig, *, author: str = "") -> bytes:
    """Return the document of a config; `ImageConfig.parse` reads it again.

    Args:
        config: what it says.
        author: of the image, if anybody.

    Raises:
        ConfigError: a text in it is none.
    """
    process: dict[str, Any] = {
        "Entrypoint": config.entrypoint,
        "Cmd": config.cmd,
        "Env": config.env,
        "WorkingDir": config.workdir,
        "User": config.user,
        "Shell": config.shell,
        "StopSignal": config.stop_signal,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Volumes": {volume: {} for volume in config.volumes},
        "Labels": dict(sorted(config.labels.items())),
        "Healthcheck": None if config.healthcheck is None else _healthcheck(config.healthcheck),
    }
    document = {
        "created": config.created_text,
        "author": author,
        "architecture": config.architecture,
        "os": config.os,
        "variant": config.variant,
        "config": _said(process) or None,
    }
    return _dump(
        {
            **_said(document),
            "rootfs": {"type": "layers", "diff_ids": [str(one) for one in config.diff_ids]},
            "history": [_history(entry) for entry in config.history],
        }
    )


def encode_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Return the document of an OCI manifest; layers of Docker's kinds are called by OCI's names.

    The bytes of both are the same, and no registry takes a manifest that mixes them.
    """
    return _dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(config, OCI_CONFIG),
            "layers": [_descriptor(layer, oci_layer(layer.media_type)) for layer in layers],
        }
    )


def oci_layer(media_type: str) -> str:
    """Return OCI's name for a kind of layers that Docker has another one for."""
    if not media_type.startswith(DOCKER_LAYER):
        return media_type
    return OCI_LAYER + media_type[len(DOCKER_LAYER) :].replace(".", "+", 1)


def _descriptor(one: Descriptor, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(one.digest), "size": one.size}


def _history(entry: HistoryEntry) -> dict[str, Any]:
    return _said(entry._asdict())


def _healthcheck(check: ImageHealthcheck) -> dict[str, Any]:
    return _said(
        {
            "Test": check.test,
            "Interval": check.interval_ns,
            "Timeout": check.timeout_ns,
            "StartPeriod": check.start_period_ns,
            "StartInterval": check.start_interval_ns,
            "Retries": check.retries,
        }
    )


def _said(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members that say something."""
    return {name: value for name, value in members.items() if value}


def _dump(document: dict[str, Any]) -> bytes:
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # which would show the text
        raise ConfigError("a text of the image's is not UTF-8") from None
