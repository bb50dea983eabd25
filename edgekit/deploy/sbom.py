"""A bill of materials in CycloneDX 1.6, for whoever has to know what runs on a device.

Reference: ECMA-424 (CycloneDX 1.6), https://cyclonedx.org/docs/1.6/json/. No time and no random number goes in: the serial number follows
from the content.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit import __version__
from edgekit.core import digest
from edgekit.deploy.content import pretty, runtime_licences

if TYPE_CHECKING:
    from edgekit.core.report import Report
    from edgekit.deploy.samples import Facts


def bill_of_materials(name: str, version: int, report: Report, runtime: str, facts: Facts, files: Mapping[str, str]) -> bytes:
    """Return the bill as JSON.

    Args:
        name: the model's.
        version: the bundle's counter.
        report: of the run.
        runtime: that the device needs.
        facts: what version of it the model was run in.
        files: SHA-256 by path.
    """
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": name,
        "version": str(version),
        "properties": [
            {"name": "edgekit:task", "value": report.task},
            {"name": "edgekit:source", "value": str(report.provenance.source.get("digest"))},
        ],
    }
    parts: list[dict[str, Any]] = [
        {
            "type": "application",
            "bom-ref": "agent",
            "name": "edgekit",
            "version": __version__,
            "purl": f"pkg:pypi/edgekit@{__version__}",
            "licenses": [{"license": {"id": "Apache-2.0"}}],
        }
    ]
    for package, licence in runtime_licences(runtime).items():
        parts.append(
            {
                "type": "library",
                "bom-ref": package,
                "name": package,
                "version": facts.runtime_version,
                "purl": f"pkg:pypi/{package}@{facts.runtime_version}",
                "scope": "required",
                "licenses": [{"license": {"name": licence}}],
            }
        )
    for path, sha256 in sorted(files.items()):
        parts.append({"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [{"alg": "SHA-256", "content": sha256}]})
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": parts,
        "dependencies": [{"ref": "model", "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"edgekit:{digest.of_json(body)}")
    return pretty({**body, "serialNumber": f"urn:uuid:{serial}"})
