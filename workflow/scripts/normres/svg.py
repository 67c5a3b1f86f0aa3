"""SVG drawings as part of an HTML page: no clash of ids, no style or script that leaks out."""

import re
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup

from normres.errors import InputError
from normres.parts import id_attributes

# What may stay: elements that draw. No script, style, link, animation or foreign content.
DRAWING = {
    *("svg", "g", "defs", "symbol", "use", "path", "rect", "circle", "ellipse", "line"),
    *("polyline", "polygon", "text", "tspan", "title", "desc", "image", "clipPath", "mask"),
    *("pattern", "linearGradient", "radialGradient", "stop"),
}
REFERENCE = re.compile(r"url\(\s*['\"]?([^)'\"]*)['\"]?\s*\)")


def embed_svg(path: Path, prefix: str) -> Markup:
    """An SVG file as markup within an HTML page.

    Ids are prefixed, so that two figures never share one, and dropped where nothing refers to them;
    what a part shows, in its id, becomes data attributes (see parts.py).
    Only drawing is kept: whatever could run, load or restyle something is left out, and metadata.
    Raises InputError where the file is missing or not SVG.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not an SVG drawing ({error})") from None
    for title in root.findall("{*}title"):  # the page has its own; this one would be a tooltip
        root.remove(title)
    clean(root, prefix)
    used = {target for element in root.iter() for target in targets(element)}
    for element in root.iter():
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"aria-hidden": "true", "focusable": "false"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def clean(element: ElementTree.Element, prefix: str) -> None:
    """Keep what draws, in place: see `embed_svg`."""
    element.tag = element.tag.rpartition("}")[2]
    element.text = " ".join((element.text or "").split())
    element.tail = None
    attributes = {}
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2]
        if name == "id":
            attributes |= {name: prefix + value} | id_attributes(value)
        elif name == "href" and value.startswith("#"):
            attributes[name] = f"#{prefix}{value[1:]}"
        elif name == "href" and value.startswith("data:image/"):
            attributes[name] = value
        elif name != "href" and not name.startswith("on"):
            attributes[name] = local_references(" ".join(value.split()), prefix)
    element.attrib.clear()
    element.attrib.update(attributes)
    for child in list(element):
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] in DRAWING:
            clean(child, prefix)
        else:
            element.remove(child)


def targets(element: ElementTree.Element) -> list[str]:
    """The ids that an element refers to."""
    found = [match for value in element.attrib.values() for match in REFERENCE.findall(value)]
    return [target.removeprefix("#") for target in [*found, element.attrib.get("href", "")]]


def local_references(value: str, prefix: str) -> str:
    """Prefix what url(...) refers to within the drawing; anything outside becomes `none`."""
    return REFERENCE.sub(
        lambda match: f"url(#{prefix}{match[1][1:]})" if match[1].startswith("#") else "none", value
    )
