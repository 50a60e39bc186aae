"""Radford et al. 2021, figure 5: zero-shot CLIP against a fully supervised probe on ResNet-50 features."""

from collections import namedtuple

# the grouping is ours; the paper speaks of fine-grained, general, action and specialized data sets
KINDS = (
    "fine-grained kinds",
    "actions",
    "places",
    "general objects",
    "text and digits in pictures",
    "textures, expressions",
    "specialized or abstract",
)
FINE, ACTIONS, PLACES, OBJECTS, TEXT, LOOKS, SPECIAL = KINDS

# points: zero-shot minus the probe, in percentage points; asks: the question, in our words; key: the data set's name in
# minclip.evaluate.benchmarks
Difference = namedtuple("Difference", "name points kind asks key")
FIGURE_5 = tuple(
    Difference(*row)
    for row in (
        ("Stanford Cars", 28.9, FINE, "which make and model of car?", "cars"),
        ("Country211", 23.2, PLACES, "in which country?", "country211"),
        ("Food101", 22.5, FINE, "which dish?", "food101"),
        ("Kinetics700", 14.5, ACTIONS, "what are they doing? (a frame of a video)", "kinetics700"),
        ("SST2", 12.4, TEXT, "is this sentence positive? (rendered as an image)", "sst2"),
        ("SUN397", 7.8, PLACES, "what kind of place?", "sun397"),
        ("UCF101", 7.7, ACTIONS, "what are they doing? (a frame of a video)", "ucf101"),
        ("Hateful Memes", 6.7, TEXT, "is this meme hateful? (picture with text)", "hateful_memes"),
        ("CIFAR10", 3.9, OBJECTS, "which object or animal? (32 pixels)", "cifar10"),
        ("CIFAR100", 3.0, OBJECTS, "which object or animal? (32 pixels)", "cifar100"),
        ("STL10", 3.0, OBJECTS, "which object or animal? (96 pixels)", "stl10"),
        ("FER2013", 2.8, LOOKS, "which facial expression?", "fer2013"),
        ("Caltech101", 2.0, OBJECTS, "which object?", "caltech101"),
        ("ImageNet", 1.9, OBJECTS, "which object?", "imagenet"),
        ("Oxford Pets", 1.1, FINE, "which breed of cat or dog?", "pets"),
        ("PascalVOC2007", 0.5, OBJECTS, "which objects?", "voc2007"),
        ("Birdsnap", -3.2, FINE, "which species of bird?", "birdsnap"),
        ("MNIST", -10.0, TEXT, "which handwritten digit?", "mnist"),
        ("FGVC Aircraft", -11.3, FINE, "which variant of aircraft?", "aircraft"),
        ("RESISC45", -11.9, SPECIAL, "what is seen from above?", "resisc45"),
        ("Flowers102", -12.5, FINE, "which species of flower?", "flowers102"),
        ("DTD", -16.6, LOOKS, "which texture?", "dtd"),
        ("CLEVRCounts", -18.2, SPECIAL, "how many objects?", "clevr"),
        ("GTSRB", -18.4, SPECIAL, "which traffic sign?", "gtsrb"),
        ("PatchCamelyon", -19.5, SPECIAL, "is this tissue a tumor?", "pcam"),
        ("KITTI Distance", -34.0, SPECIAL, "how far is the nearest car?", "kitti"),
        ("EuroSAT", -37.1, SPECIAL, "which land use? (by satellite)", "eurosat"),
    )
)
