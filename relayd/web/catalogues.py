"""The texts of the pages, one catalogue a language, and the choice among them. Pure.

Below `templates`. A catalogue is a file in `languages/`, named by its tag (RFC 5646):

    {"texts": {key: text}, "sentences": {English sentence: translation}}

All catalogues have the same keys in `texts`. `sentences` translates what the code says in English
wherever it comes from: the phrases of HTTP statuses, the sentences of refusals, the purposes of
paths; one that is missing is shown in English. **A language is added by its file**, nothing else.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "languages"
DEFAULT = "en"
_ITEM = re.compile(r"\s*([A-Za-z0-9*-]+)\s*(?:;\s*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?")


@dataclass(frozen=True)
class Catalogue:
    """The texts of one language.

    Attributes:
        tag: of the language, such as `ja`.
        texts: by their keys.
        sentences: translations of English sentences.
    """

    tag: str
    texts: Mapping[str, str]
    sentences: Mapping[str, str]

    def sentence(self, english: str) -> tuple[str, str]:
        """A sentence of the code in this language, or as it is; and the tag of its language."""
        known = self.sentences.get(english)
        return (english, DEFAULT) if known is None else (known, self.tag)

    def group(self, prefixes: tuple[str, ...]) -> dict[str, str]:
        """The texts whose keys begin with one of the prefixes, for a script."""
        return {key: text for key, text in self.texts.items() if key.startswith(prefixes)}


def _read(path: Path) -> Catalogue:
    content = json.loads(path.read_text(encoding="utf-8"))
    return Catalogue(path.stem, content["texts"], content["sentences"])


CATALOGUES = {path.stem: _read(path) for path in sorted(FOLDER.glob("*.json"))}


def choose(accepted: str | None) -> Catalogue:
    """The catalogue for an `Accept-Language` header (RFC 9110 section 12.5.4).

    Each range is looked up as it is, then without its last parts (RFC 4647 section 3.4), so that
    `ja-JP` is `ja`; of equal weights the first range counts. Members that are no range are ignored.
    """
    weights: list[tuple[float, str]] = []
    for item in (accepted or "").split(",")[:50]:
        found = _ITEM.fullmatch(item)
        if found is not None:
            weights.append((float(found[2] or "1"), found[1].lower()))
    refused = {name for weight, name in weights if weight == 0}
    for weight, name in sorted(weights, key=lambda each: -each[0]):
        if weight == 0:
            continue
        if name == "*":
            named = {tag.partition("-")[0] for _, tag in weights}
            rest = [tag for tag in (DEFAULT, *CATALOGUES) if tag not in named]
            if rest:
                return CATALOGUES[rest[0]]
        while name:
            if name in CATALOGUES and name not in refused:
                return CATALOGUES[name]
            name = name.rpartition("-")[0]
    return CATALOGUES[DEFAULT]
