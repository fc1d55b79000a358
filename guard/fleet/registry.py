"""The fleet: models by id, read once from `fleet.toml`, frozen at run time.

pydantic reads what people write, so that an error names the file, the key and the mend; it is
imported by the load alone.
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from ..errors import FleetFault
from ..request import ModelRef

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["Fleet", "Model"]

FILE_BYTES_MAX: Final = 1024 * 1024
MODELS_MAX: Final = 1_000  # all of them stand in the policy data
ERRORS_SHOWN_MAX: Final = 5

APPROVED_STATUSES: Final = frozenset({"active", "deprecated"})


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the fleet. Prices are in millionths of the currency per million tokens."""

    id: str
    provider: str | None = None
    endpoint: str | None = None
    context_window_tokens: int
    price_in_micros_per_mtok: int
    price_out_micros_per_mtok: int
    data_classes: tuple[str, ...] = ()  # what it may be shown: public, internal, personal, ...
    jurisdictions: tuple[str, ...] = ()  # where it runs: eu, us, ...
    status: str = "candidate"  # candidate, shadow, active, deprecated, retired
    tasks: tuple[str, ...] = ()
    tier: str = "medium"  # small, medium, large

    @property
    def is_approved(self) -> bool:
        """Whether its status lets it be called: active or deprecated."""
        return self.status in APPROVED_STATUSES


class Fleet(msgspec.Struct, frozen=True):
    """The models by id. Nobody may change `models` after it was made."""

    models: dict[str, Model]

    @classmethod
    def load(cls, path: str | Path) -> Fleet:
        """Fleet of a TOML file with `[[models]]`; raises FleetFault."""
        file = Path(path)
        try:
            with file.open("rb") as stream:
                content = stream.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise FleetFault(
                f"cannot read `{file}`: {error.strerror or 'unknown error'}"
            ) from error
        if len(content) > FILE_BYTES_MAX:
            raise FleetFault(f"`{file}` is larger than {FILE_BYTES_MAX} bytes")
        try:
            table = tomllib.loads(content.decode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise FleetFault(f"`{file}` is not TOML: {_line(str(error))}") from error
        return cls(_validated(table, file))

    @classmethod
    def empty(cls) -> Fleet:
        """A fleet without models: it approves nothing."""
        return cls({})

    def approved(self, ref: ModelRef) -> bool:
        """Whether exactly this model may be called: id, provider and endpoint together."""
        model = self.models.get(ref.id)
        return (
            model is not None
            and model.is_approved
            and model.provider == ref.provider
            and model.endpoint == ref.endpoint
        )

    def as_data(self) -> dict[str, Any]:
        """Plain JSON for Rego, as `data.fleet`: {"models": {id: {...}}}."""
        data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return data


def _validated(table: dict[str, Any], file: Path) -> dict[str, Model]:
    from pydantic import ValidationError

    form = _form()
    try:
        rows = form.model_validate(table).model_dump()["models"]
    except ValidationError as error:
        raise FleetFault(f"`{file}`: {_explain(error, form)}") from error
    models: dict[str, Model] = {}
    for row in rows:
        if row["id"] in models:
            raise FleetFault(f"`{file}`: two models have the id `{row['id']}`")
        models[row["id"]] = msgspec.convert(row, Model)
    return models


@functools.cache
def _form() -> type[BaseModel]:
    """What the file may hold, as pydantic models; made at the first load."""
    import pydantic

    name = pydantic.StringConstraints(min_length=1, max_length=200)
    word = pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9_\-]{0,63}$")
    price = pydantic.Field(ge=0, le=10**15)

    class FleetModel(pydantic.BaseModel, extra="forbid", strict=True):
        id: Annotated[str, name]
        provider: Annotated[str, name]
        endpoint: Annotated[str, name] | None = None
        context_window_tokens: Annotated[int, pydantic.Field(gt=0, le=10**12)]
        price_in_micros_per_mtok: Annotated[int, price]
        price_out_micros_per_mtok: Annotated[int, price]
        data_classes: list[Annotated[str, word]] = []
        jurisdictions: list[Annotated[str, word]] = []
        status: Literal["candidate", "shadow", "active", "deprecated", "retired"]
        tasks: list[Annotated[str, word]] = []
        tier: Literal["small", "medium", "large"] = "medium"

    class FleetFile(pydantic.BaseModel, extra="forbid", strict=True):
        models: Annotated[list[FleetModel], pydantic.Field(max_length=MODELS_MAX)]

    return FleetFile


def _explain(error: ValidationError, form: type[BaseModel]) -> str:
    known = [*form.model_fields, *Model.__struct_fields__]
    notes: list[str] = []
    errors = error.errors(include_url=False, include_context=False)
    for found in errors[:ERRORS_SHOWN_MAX]:
        place = ".".join(str(part)[:60] for part in found["loc"])
        name = str(found["loc"][-1])
        if found["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, known, n=1)
            note = f"unknown key `{name[:60]}` at `{place}`"
            notes.append(f"{note}: did you mean `{near[0]}`?" if near else note)
        elif found["type"] == "missing":
            notes.append(f"`{place}` is missing")
        else:
            notes.append(f"`{place}`: {_line(found['msg'])}")
    if len(errors) > ERRORS_SHOWN_MAX:
        notes.append(f"and {len(errors) - ERRORS_SHOWN_MAX} more")
    return "; ".join(notes)


def _line(message: str) -> str:
    # Foreign messages as ours: one line, lower case at its beginning, no full stop.
    line = " ".join(message.split())[:200].rstrip(".")
    return line[:1].lower() + line[1:]
