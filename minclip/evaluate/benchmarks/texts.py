"""The words for the paper's data sets: class names where their own can't be read, and templates, all in our own wording."""

import re
from collections.abc import Sequence

from .countries import COUNTRIES

# by the set's own name of a class; a tuple is by number, where it has no names
NAMES: dict[str, dict[str, str] | tuple[str, ...]] = {
    "voc2007": {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "television or monitor"},
    "caltech101": {
        "BACKGROUND_Google": "no object in particular",
        "Faces": "person's face with what is around it",
        "Faces_easy": "person's face, close up",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
        "airplanes": "airplane",
        "car_side": "car from the side",
        "water_lilly": "water lily",
    },
    "flowers102": {"pink-yellow dahlia?": "pink and yellow dahlia"},
    "mnist": tuple("0123456789"),
    "fer2013": ("angry", "disgusted", "frightened", "happy", "sad", "surprised", "calm"),
    "eurosat": {
        "AnnualCrop": "fields of annual crops",
        "Forest": "forest",
        "HerbaceousVegetation": "wild grass and herbs",
        "Highway": "a highway",
        "Industrial": "industrial buildings",
        "Pasture": "pastures",
        "PermanentCrop": "orchards and vineyards",
        "Residential": "houses where people live",
        "River": "a river",
        "SeaLake": "the sea or a lake",
    },
    "gtsrb": (
        *(f"the speed limit of {speed} km/h" for speed in (20, 30, 50, 60, 70, 80)),
        "the end of the speed limit of 80 km/h",
        "the speed limit of 100 km/h",
        "the speed limit of 120 km/h",
        "no overtaking",
        "no overtaking for trucks",
        "right of way at the next crossing",
        "a priority road",
        "give way",
        "stop",
        "closed to all vehicles",
        "closed to trucks",
        "no entry",
        "danger ahead",
        "a dangerous bend to the left",
        "a dangerous bend to the right",
        "a double bend",
        "a bumpy road",
        "a slippery road",
        "a road that narrows on the right",
        "road works",
        "traffic lights ahead",
        "people on foot",
        "children crossing",
        "bicycles crossing",
        "snow or ice",
        "wild animals crossing",
        "the end of all limits",
        "turn right ahead",
        "turn left ahead",
        "straight on only",
        "straight on or right",
        "straight on or left",
        "keep right",
        "keep left",
        "a roundabout",
        "the end of no overtaking",
        "the end of no overtaking for trucks",
    ),
    "kitti": ("a car right ahead", "a car some way ahead", "a car in the distance", "no car at all"),
    "country211": COUNTRIES,
    "pcam": ("healthy lymph node tissue", "lymph node tissue with a tumour"),
    "clevr": ("three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "hateful_memes": {"0": "kind or harmless", "1": "hateful", "not_hateful": "kind or harmless"},
    "imagenet": {
        "Cardigan": "Cardigan Welsh corgi",
        "n02012849": "crane, the bird",
        "n03126707": "crane, the machine",
        "maillot": "maillot, a one-piece swimsuit with straps",
    },
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "food101": ("a plate of {}", "{}, served at the table", "somebody's meal: {}"),
    "cifar10": ("a tiny picture of a {}", "a {} in very few pixels", "one {}, seen coarsely"),
    "cifar100": ("a tiny picture of a {}", "a {} in very few pixels", "one {}, seen coarsely"),
    "birdsnap": ("a bird called {}", "a {} perching, a kind of bird", "a bird watcher's picture of a {}"),
    "sun397": ("a view of a {}", "this place is a {}", "a scene: {}"),
    "cars": ("a car for sale: {}", "a {} parked outside", "a {}, make, model and year"),
    "aircraft": ("an aircraft, model {}", "a {} plane at an airport", "a {} in the air"),
    "voc2007": ("a picture with a {} in it", "there is a {} here", "a {} among other things"),
    "dtd": ("a {} texture", "a {} surface, seen closely", "something {}"),
    "pets": ("a pet: {}", "a {}, the breed of a cat or dog", "somebody's {} at home"),
    "caltech101": ("a picture of one {}", "a drawing or photograph: {}", "a {} in the middle"),
    "flowers102": ("a flower called {}", "a {} in bloom", "the blossom of a {}"),
    "mnist": ("the digit {} written by hand", "a handwritten {}", "the figure {} in white on black"),
    "fer2013": ("a face that looks {}", "somebody who is {}", "a grey portrait of a {} person"),
    "stl10": ("a small picture of a {}", "a {} among its surroundings", "one {}, not quite sharp"),
    "eurosat": ("land seen by a satellite: {}", "{} from space", "a satellite's small square of {}"),
    "resisc45": ("land seen from the air: {}", "{} from above", "an aerial view of a {}"),
    "gtsrb": ("a German road sign: {}", "the sign for {}", "a small traffic sign that means {}"),
    "kitti": ("the road from a driver's seat, {}", "a street with {}", "what a camera on a car sees: {}"),
    "country211": ("somewhere in {}", "a holiday picture taken in {}", "this is what {} looks like"),
    "pcam": ("{} under the microscope", "a stained slice of {}", "a pathologist's view of {}"),
    "ucf101": ("a person doing this: {}", "a moment of a video, {}", "people at {}"),
    "kinetics700": ("a person who is {}", "a moment of a video, {}", "somebody {}"),
    "clevr": ("{} objects on a grey floor", "a scene of {} solid shapes", "{} cubes, balls and cylinders"),
    "hateful_memes": ("a meme that is {}", "words on a picture, meant to be {}", "a {} joke"),
    "sst2": ("a {} sentence about a film", "written words of a {} film critic", "text with a {} opinion"),
    "imagenet": ("a picture of the {}", "here is a {}", "a {} as one sees it", "a close view of a {}"),
}


def readable(name: str) -> str:
    """ "apple_pie" -> "apple pie", "apse/indoor" -> "indoor apse", "ApplyLipstick" -> "Apply Lipstick"."""
    place, _, which = name.partition("/")
    words = f"{which} {place}" if re.fullmatch(r"[a-z_]+", which) else name
    # only what is made of capitalised words alone: a "McLaren" among others stays one
    camel = re.fullmatch(r"([A-Z][a-z]+){2,}", words)
    return " ".join((re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words) if camel else words.replace("_", " ")).split())


def class_names(name: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The names for the prompts of data set `name`, whose own are `classes`; none where it has numbers only."""
    table = NAMES.get(name, {})
    if isinstance(table, tuple):
        return tuple(readable(c) for c in classes) or table
    return tuple(table.get(c) or readable(c) for c in classes)
