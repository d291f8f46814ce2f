"""newt config-schema: every key, its type, its default and what it means."""

from __future__ import annotations

import json
from typing import Any, Literal

import click


@click.command("config-schema")
@click.option(
    "--format", "form", type=click.Choice(["json", "yaml"]), default="json", show_default=True, help="How to print it."
)
@click.option("--field", help="Only this key (capitals do not matter).")
def command(form: Literal["json", "yaml"], field: str | None) -> None:
    """Print the JSON schema of the config, for editors and for reading."""
    from newt.config.schema import json_schema
    from newt.registry import entry_types, sections

    schema = json_schema(sections(), entry_types())
    click.echo(render(pick(schema, field) if field else schema, form))


def pick(schema: dict[str, Any], field: str) -> dict[str, Any]:
    """The schema of one key, with the definitions that it refers to.

    Raises:
        NewtError: there is no such key.
    """
    from newt.config.messages import nearest
    from newt.config.schema import used_definitions
    from newt.support.errors import NewtError

    properties = schema["properties"]
    name = field.strip().lower().replace("-", "_")
    if name not in properties:
        near = nearest(name, properties)
        hint = f"Did you mean {near}?" if near else "Leave --field away to see all keys."
        raise NewtError(f"there is no key {field!r}. {hint}")
    found = {name: properties[name]}
    definitions = used_definitions(found, schema["$defs"])
    return {**found, "$defs": definitions} if definitions else found


def render(value: Any, form: Literal["json", "yaml"]) -> str:
    """A schema as text."""
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)).rstrip()
