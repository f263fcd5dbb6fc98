"""The base of every specification: frozen, strict, finite numbers only, errors with path, value and nearest name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import ErrorDetails, core_schema

from device_models.errors import Path, SpecError, nearest
from device_models.units import unit_of

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
NonNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Fraction = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Bits = Annotated[int, Field(strict=True, ge=2, le=16)]
Text = Annotated[str, Field(strict=True)]


class StrictModel(BaseModel):
    """A frozen Pydantic model that refuses unknown fields, converted types, NaN and infinity.

    A refusal is a SpecError of one line per problem. `evolve` is the only way to change a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    source: Text = Field("", description="Where the values come from")

    def __init__(self, **data: Any):
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise SpecError(self.path_root(), _problems(type(self), error)) from None

    @classmethod
    def path_root(cls) -> str:
        """The first word of the path in error messages."""
        return cls.__name__.removesuffix("Spec").lower()

    def evolve(self, **changes: Any) -> Self:
        """A validated copy with some values changed; names may be paths: ``evolve(**{"dac.bits": 6})``.

        The `source` of a changed part says which of its values are no longer those of the original.
        """
        own: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            head, _, rest = name.partition(".")
            if rest:
                nested.setdefault(head, {})[rest] = value
            else:
                own[head] = value
        for head, inner in nested.items():
            part = own.get(head, getattr(self, head, None))
            if not isinstance(part, StrictModel):
                if head in type(self).model_fields:
                    text = f" = {part!r}: has no fields to change; give {head} as a whole"
                else:
                    text = f": unknown field{nearest(head, type(self).model_fields)}"
                raise SpecError(self.path_root(), [((head,), text)])
            try:
                own[head] = part.evolve(**inner)
            except SpecError as error:
                problems = [((head, *path), message) for path, message in error.problems]
                raise SpecError(self.path_root(), problems) from None
        data = {name: getattr(self, name) for name in type(self).model_fields}
        changed = [name for name in own if name not in nested and data.get(name) != own[name] and name != "source"]
        for head, inner in nested.items():  # a part without a source of its own inherits this one
            if not own[head].source and own[head] != data[head]:
                changed += [f"{head}.{name}" for name in inner]
        if changed and "source" not in own and self.source:
            text, _, before = self.source.removesuffix("]").partition(" [changed: ")
            names = dict.fromkeys([*before.split(", "), *changed] if before else changed)
            own["source"] = f"{text if before else self.source} [changed: {', '.join(names)}]"
        return type(self)(**{**data, **own})


class KindOf:
    """Annotation of a field that holds one of several specifications, told apart by `kind`.

    `family()` gives the classes by kind at the time of validation, so a class registered later is found as well;
    `default` is the kind of a mapping that names none.
    """

    def __init__(self, family: Callable[[], Mapping[str, type[StrictModel]]], default: str | None = None):
        self.family = family
        self.default = default

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.resolve,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode), info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"oneOf": [handler(cls.__pydantic_core_schema__) for cls in self.family().values()]}

    def resolve(self, value: Any) -> StrictModel:
        family = self.family()
        if isinstance(value, StrictModel) and isinstance(value, tuple(family.values())):
            return value
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping):
            raise SpecError("", [((), f" = {value!r}: must be a mapping with a kind, one of {', '.join(family)}")])
        kind = value.get("kind", self.default)
        if not isinstance(kind, str) or kind not in family:
            hint = nearest(str(kind), family)
            raise SpecError("", [(("kind",), f" = {kind!r}: must be one of {', '.join(family)}{hint}")])
        return family[kind](**value)


def _problems(cls: type[BaseModel], error: ValidationError) -> list[tuple[Path, str]]:
    problems: list[tuple[Path, str]] = []
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, SpecError):  # a specification inside this one: keep its own wording, lengthen its path
            problems += [((*item["loc"], *path), message) for path, message in cause.problems]
        else:
            problems.append((item["loc"], _message(cls, item)))
    return problems


def _message(cls: type[BaseModel], item: ErrorDetails) -> str:
    name = str(item["loc"][0]) if item["loc"] else ""
    unit = unit_of(name, "")
    unit = "" if unit in ("-", "1") else f" {unit}"
    context = item.get("ctx", {})
    match item["type"]:
        case "extra_forbidden":
            known = list(cls.model_fields)
            return f": unknown field; accepted: {', '.join(known)}{nearest(name, known)}"
        case "missing":
            return ": required, but not given"
        case "greater_than":
            rule = f"must be above {context['gt']:g}{unit}"
        case "greater_than_equal":
            rule = f"must be at least {context['ge']:g}{unit}"
        case "less_than_equal":
            rule = f"must be at most {context['le']:g}{unit}"
        case "int_type" | "int_from_float":
            rule = "must be a whole number"
        case "float_type":
            rule = "must be a number"
        case "finite_number":
            rule = "must be a finite number"
        case "literal_error":
            rule = f"must be one of {context['expected']}{nearest(str(item['input']), _words(context['expected']))}"
        case "value_error":
            rule = str(context["error"])
        case _:
            rule = item["msg"][0].lower() + item["msg"][1:]
    return f" = {item['input']!r}: {rule}" if item["loc"] else f": {rule}"


def _words(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
