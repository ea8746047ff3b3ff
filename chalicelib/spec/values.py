"""What one value of the service file may be: bounds, names, paths, accelerators; and how a broken rule is told."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from chalicelib.spec import forms

# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_HTTP_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Broken(NamedTuple):
    """A broken rule; `at` leads from the field that checks it to what is wrong within that field."""

    reason: str
    hint: str = ""
    at: tuple[str | int, ...] = ()


def broken(reason: str, hint: str = "", at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """The error to raise for one broken rule."""
    return all_broken([Broken(reason, hint, at)])


def all_broken(rules: list[Broken]) -> PydanticCustomError:
    """The error to raise for several broken rules at once."""
    return PydanticCustomError("rules", "{rules}", {"rules": rules})


def nearest(word: str, words: Iterable[str], likeness: float = 0.6) -> str:
    """A hint naming the words most like `word`, or an empty one. `likeness` is difflib's ratio, 1 for equal words."""
    by_lower = {each.lower(): each for each in words}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=likeness)
    return f"did you mean {' or '.join(by_lower[each] for each in close)}?" if close else ""


def checked(read: Callable[[Any], object]) -> AfterValidator:
    """Check that `read` can read the value, and keep it as the user wrote it."""

    def check(value: Any) -> Any:
        read(value)
        return value

    return AfterValidator(check)


_YEAR_S = 366 * 86400
Seconds = Annotated[float, Field(ge=0, le=_YEAR_S, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=_YEAR_S, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10_000)]
AtLeastOne = Annotated[int, Field(ge=1, le=10_000)]
Text = Annotated[str, Field(min_length=1)]
Item = TypeVar("Item")
NonEmpty = Annotated[list[Item], Field(min_length=1)]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(_lower)  # SkyServe compares these names without regard to case


def _probe_path(path: str) -> str:
    if not path.startswith("/"):
        raise broken("must begin with /")
    if not path.isprintable() or " " in path:
        raise broken("must not hold spaces or control characters")
    return path


ProbePath = Annotated[str, AfterValidator(_probe_path)]


def _metric_name(name: str) -> str:
    if not _METRIC_NAME.fullmatch(name):
        raise broken("is not a metric's name", "the name alone, without labels: all samples of that name are added up")
    return name


MetricName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_metric_name)]


def _header_name(name: str) -> str:
    if not _HTTP_TOKEN.fullmatch(name):
        raise broken("is not a header's name")
    return name


def _header_value(value: str) -> str:
    if not value.isprintable():
        raise broken("must be one line without control characters")
    return value


def _image_id(text: str) -> str:
    if not text.isprintable() or " " in text or text == "docker:":
        raise broken(
            "is not an image's name", "e.g. docker:vllm/vllm-openai:v0.11.0, or the cloud's own name of an image"
        )
    return text


ImageId = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_image_id)]

# What AWS tags, Azure tags and GCP labels all take; GCP is the strictest. Its 64 labels include Sailplane's three.
# https://cloud.google.com/compute/docs/labeling-resources#requirements
MAX_LABELS = 40
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_OUR_LABELS = "sailplane-"


def _label_key(key: str) -> str:
    if key.startswith(_OUR_LABELS):
        raise broken(f"has a label {key!r}, but labels that begin with {_OUR_LABELS} are Sailplane's own")
    if key.isprintable() and not _LABEL_KEY.fullmatch(key):  # of other characters the document has told already
        hint = "a lower-case letter, then at most 62 of a-z, 0-9, _ and -"
        raise broken(f"has a label {key[:80]!r}, which not every cloud takes", hint)
    return key


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise broken("is a value that not every cloud takes", "at most 63 of a-z, 0-9, _ and -")
    return value


LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]


def fits_header(text: str) -> bool:
    """Whether a header can carry the text as it is."""
    return text.isascii() and text.isprintable()


def _model_name(name: str) -> str:
    if not fits_header(name) or " " in name:
        raise broken("must be printable ASCII without spaces, such as meta-llama/Llama-3.1-8B")
    return name


ModelName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_model_name)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]


def _known_accelerator(text: str, info: ValidationInfo) -> str:
    """The text with the accelerator's name as the catalog spells it. Only the case may differ: A10 is not A10G."""
    wanted = forms.accelerator(text)
    known: dict[str, str] = (info.context or {}).get("accelerators", {})
    if not wanted.name or not known:
        return text
    if wanted.name.lower() not in known:
        hint = nearest(wanted.name, known.values(), likeness=0.4) or f"known are, among others, {_some(known.values())}"
        raise broken(f"names no accelerator that is known: {wanted.name!r}", hint)
    return known[wanted.name.lower()] + text[len(wanted.name) :]


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:10])


AcceleratorText = Annotated[str, AfterValidator(_known_accelerator)]


def _one_target_each(value: Any) -> Any:
    """One for each accelerator, by name: what the memory of `80GB` is on is not known before there is a machine."""
    seen: set[str] = set()
    for text in value if isinstance(value, dict) else ():
        if not isinstance(text, str):
            continue
        if text.lower() in seen:
            raise broken("has two targets, which differ in case only", "keep one of them", (text,))
        if forms.accelerator(text).memory is not None:
            raise broken("must be the name of an accelerator, such as L4 or L4:8", at=(text,))
        seen.add(text.lower())
    return value


TargetByAccelerator = Annotated[dict[AcceleratorText, Positive], Field(min_length=1), BeforeValidator(_one_target_each)]


def _one_count_each(value: Any) -> Any:
    for text, count in value.items() if isinstance(value, dict) else ():
        if count is not None and forms.accelerator(text).count is not None:
            raise broken("has two counts", f"write {text} or {text.split(':')[0]}: {count}", (text,))
    return value


AcceleratorCounts = Annotated[
    dict[AcceleratorText, AtLeastOne | None], Field(min_length=1), AfterValidator(_one_count_each)
]


def _cloud(text: str) -> str:
    try:
        return forms.cloud(text)
    except ValueError as error:
        raise broken(str(error), nearest(text, forms.CLOUDS)) from error


def _infra(text: str) -> str:
    head = text.split("/", maxsplit=1)[0].strip()
    if head != "*":
        _cloud(head)
    forms.infra(text)
    return text


Cloud = Annotated[str, AfterValidator(_cloud)]
Infra = Annotated[str, AfterValidator(_infra)]
