"""`dicomlake show`: everything about a study, series or instance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicomlake.cli.common import JsonOption, LakeOption, examples, open_lake, print_json, print_table, shown

if TYPE_CHECKING:
    from dicomlake.series import Series

EXAMPLES = examples("dicomlake show 1.2.840.1 --lake my-lake", "dicomlake show 1.2.840.1.5 --header")
_FEW = 5


def command(
    uid: Annotated[str, typer.Argument(help="A study, series or SOP instance UID.")],
    header: Annotated[
        bool, typer.Option("--header", help="Every element of the instance, or the first.")
    ] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show facts, volumes, findings and, on request, every element."""
    with open_lake(lake) as opened:
        found = opened.find(uid)
        if not found:
            raise typer.BadParameter(f"nothing in {opened.path} has the UID {uid}: see `dicomlake ls`")
        described = [_described(series, uid, header) for series in found]
    if as_json:
        print_json(described)
        return
    for one in described:
        _print(one)


def _described(series: Series, uid: str, header: bool) -> dict[str, Any]:
    instances = series.instances
    named = any(instance.sop_instance_uid == uid for instance in instances)
    return {
        "series": series.facts,
        "volumes": [dataclasses.asdict(volume) for volume in series.volumes],
        "findings": [dataclasses.asdict(finding) for finding in series.findings],
        "instances": [dataclasses.asdict(i) for i in instances if not named or i.sop_instance_uid == uid],
        "header": series.header(uid if named else None) if header else None,
    }


def _print(one: dict[str, Any]) -> None:
    facts = {name: value for name, value in one["series"].items() if value is not None}
    print_table(("fact", "value"), facts.items(), title="Series")
    volumes = [
        (v["number"], v["verdict"], v["shape"], v["dtype"], v["spacing_mm"], v["key"] or v["reason"])
        for v in one["volumes"]
    ]
    print_table(
        ("volume", "verdict", "shape", "dtype", "spacing mm", "key"),
        volumes,
        title="Volumes",
    )
    if one["findings"]:
        findings = [(f["severity"], f["kind"], f["message"]) for f in one["findings"]]
        print_table(("severity", "kind", "message"), findings, title="Findings")
    instances = [(i["sop_instance_uid"], i["size"], i["key"]) for i in one["instances"][:_FEW]]
    more = len(one["instances"]) - _FEW
    title = "Instances" + (f" (the first {_FEW} of {more + _FEW}; --json has all)" if more > 0 else "")
    print_table(("SOPInstanceUID", "bytes", "key"), instances, title=title, right=("bytes",))
    if one["header"] is not None:
        elements = [(path, shown(values)) for path, values in one["header"].items()]
        print_table(("element", "value"), elements, title="Elements")
