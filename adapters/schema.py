"""The JSON Schema of the scenario format, from the same models that run it."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, TypeAdapter
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from returnable.adapters.scenario import Expectation
from returnable.domain.commands import COMMANDS, QUESTIONS
from returnable.domain.fields import Instant
from returnable.domain.outcome import OutcomeView
from returnable.projections.views import AnyView

VIEWS: tuple[type[BaseModel], ...] = get_args(AnyView)


def scenario_schema() -> str:
    """The JSON Schema (2020-12) of a line, with outcomes and views among its definitions, as indented JSON text."""
    definitions: dict[str, Any] = {}
    inputs: list[type[BaseModel]] = [*COMMANDS.values(), *QUESTIONS.values(), Expectation]
    template = "#/$defs/{model}"
    _, of_inputs = models_json_schema([(model, "validation") for model in inputs], ref_template=template)
    outputs: list[type[BaseModel]] = [OutcomeView, *VIEWS]
    _, of_outputs = models_json_schema([(model, "serialization") for model in outputs], ref_template=template)
    definitions |= of_inputs["$defs"] | of_outputs["$defs"]
    at = TypeAdapter(
        Annotated[
            Instant,
            Field(description="The system's clock; never decreases from line to line unless a line says steps_back"),
        ]
    )
    at_schema = at.json_schema()
    steps_back = {
        "type": "boolean",
        "default": False,
        "description": "The clock of this line may be before the line above: another process with another clock recorded it",
    }
    for tag, models in (("command", COMMANDS), ("query", QUESTIONS)):
        for model in models.values():
            line = definitions[model.__name__]
            line["properties"] = {
                "at": at_schema,
                "steps_back": steps_back,
                **line["properties"],
                "expect": {"$ref": "#/$defs/Expectation"}
                if tag == "command"
                else {"description": "a subset of the answer"},
            }
            line["required"] = ["at", tag, *(name for name in line.get("required", []) if name != tag)]
    for name, choices in (
        ("RequestRefund", ("return_id", "order_id", "claim_id")),
        ("AskRefund", ("refund_id", "return_id", "order_id", "claim_id")),
    ):
        definitions[name]["oneOf"] = [{"required": [choice]} for choice in choices]
    definitions["AnswerLine"] = {
        "type": "object",
        "description": "What play prints for a question.",
        "properties": {
            "line": {"type": "integer"},
            "at": {"type": "string"},
            "query": {"type": "string"},
            "answer": {"anyOf": [*({"$ref": f"#/$defs/{view.__name__}"} for view in VIEWS), {"type": "null"}]},
            "error": {"anyOf": [{"$ref": "#/$defs/ErrorView"}, {"type": "null"}]},
        },
        "required": ["line", "at", "query", "answer", "error"],
    }
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "returnable scenario line",
        "description": "A scenario is a JSON Lines file; each line is one of these objects.",
        "oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in (*COMMANDS.values(), *QUESTIONS.values())],
        "$defs": definitions,
    }
    return to_json(document, indent=2).decode()
