"""The paper's data sets, a few grey images each, on disk as their makers lay them out.

`WRITERS[name](root, monkeypatch)` writes one and returns what it holds: split -> [(class name as we call it, grey value)],
where the value tells the images apart.  Checksums that torchvision knows are replaced by those of the tiny files.
"""

import hashlib
import io
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

WRITERS = {}


def writer(function):
    WRITERS[function.__name__] = function
    return function


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def grey(path, value, size=(20, 14)):
    """One image, in the format that the path's ending names."""
    file, ending = io.BytesIO(), path.suffix.lower()
    Image.new("RGB", size, (value,) * 3).save(file, {".jpg": "JPEG", ".jpeg": "JPEG", ".ppm": "PPM"}.get(ending, "PNG"))
    put(path, file.getvalue())


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def folders(place, classes, count=1, ending="jpg", first=0):
    """Class folders of `count` images; returns (folder, value) of each."""
    out = []
    for i, name in enumerate(classes):
        for j in range(count):
            value = first + 40 * i + 2 * j
            grey(place / name / f"{name}_{j}.{ending}", value)
            out.append((name, value))
    return out


def named(pairs, names):
    return [(names.get(name, name), value) for name, value in pairs]


@writer
def food101(root, monkeypatch):
    for split, value in (("train", 10), ("test", 90)):
        names = {"apple_pie": [f"apple_pie/{split}"], "bread_pudding": [f"bread_pudding/{split}"]}
        put(root / "food-101/meta" / f"{split}.json", json.dumps(names))
        grey(root / f"food-101/images/apple_pie/{split}.jpg", value)
        grey(root / f"food-101/images/bread_pudding/{split}.jpg", value + 40)
    return {s: [("apple pie", v), ("bread pudding", v + 40)] for s, v in (("train", 10), ("test", 90))}


def cifar(root, monkeypatch, kind, place, files, labels_key, meta, meta_key):
    import torchvision

    names = ["airplane", "aquarium_fish", "cat"]
    lists = []
    for k, file in enumerate(files):
        values = [10 + 10 * k + 60 * i for i in range(3)]
        colours = np.array(values)[:, None] + [-1, 0, 1]  # blue is a little brighter than red
        halves = np.repeat([-3, 3], 16)  # and the left half a little darker
        data = (colours[:, :, None, None] + np.zeros((32, 1), int) + halves).astype(np.uint8).reshape(3, 3072)
        put(root / place / file, pickle.dumps({"data": data, labels_key: [0, 1, 2]}))
        lists.append([file, md5(root / place / file)])
    put(root / place / meta, pickle.dumps({meta_key: names}))
    of = getattr(torchvision.datasets, kind)
    monkeypatch.setattr(of, "train_list", lists[:-1])
    monkeypatch.setattr(of, "test_list", lists[-1:])
    monkeypatch.setattr(of, "meta", {"filename": meta, "key": meta_key, "md5": md5(root / place / meta)})
    readable = ["airplane", "aquarium fish", "cat"]
    rows = [[(readable[i], 10 + 10 * k + 60 * i) for i in range(3)] for k in range(len(files))]
    return {"train": [pair for row in rows[:-1] for pair in row], "test": rows[-1]}


@writer
def cifar10(root, monkeypatch):
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return cifar(root, monkeypatch, "CIFAR10", "cifar-10-batches-py", files, "labels", "batches.meta", "label_names")


@writer
def cifar100(root, monkeypatch):
    files = ["train", "test"]
    return cifar(root, monkeypatch, "CIFAR100", "cifar-100-python", files, "fine_labels", "meta", "fine_label_names")


@writer
def sun397(root, monkeypatch):
    place = root / "SUN397"
    put(place / "ClassName.txt", "/a/abbey\n/a/apse/indoor\n/f/forest/needleleaf\n")
    out = {}
    for split, word, value in (("train", "Training", 10), ("test", "Testing", 20)):
        files = [f"/{c}/sun_{split}.jpg" for c in ("a/abbey", "a/apse/indoor", "f/forest/needleleaf")]
        for i, file in enumerate(files):
            grey(place / file.strip("/"), value + 60 * i)
        put(place / f"{word}_01.txt", "\n".join(files) + "\n")
        names = ("abbey", "indoor apse", "needleleaf forest")
        out[split] = [(name, value + 60 * i) for i, name in enumerate(names)]
    return out


def struct(rows, **kinds):
    out = np.empty(len(rows), [(name, object) for name in kinds])
    for i, row in enumerate(rows):
        out[i] = row
    return out


@writer
def cars(root, monkeypatch):
    io = pytest.importorskip("scipy.io")
    place = root / "stanford_cars"
    (place / "devkit").mkdir(parents=True)
    names = np.array(["Acura RL Sedan 2012", "BMW ActiveHybrid 5 Sedan 2012"], object)
    io.savemat(place / "devkit/cars_meta.mat", {"class_names": names})
    for file, folder, value in (
        ("devkit/cars_train_annos.mat", "cars_train", 10),
        ("cars_test_annos_withlabels.mat", "cars_test", 20),
    ):
        rows = [("00001.jpg", 2), ("00002.jpg", 1)]
        io.savemat(place / file, {"annotations": struct(rows, **{"fname": 0, "class": 0})})
        grey(place / folder / "00001.jpg", value)
        grey(place / folder / "00002.jpg", value + 100)
    return {s: [(names[1], v), (names[0], v + 100)] for s, v in (("train", 10), ("test", 20))}


@writer
def aircraft(root, monkeypatch):
    place, out = root / "fgvc-aircraft-2013b/data", {}
    put(place / "variants.txt", "707-320\nCessna 172\nF/A-18\n")
    for k, split in enumerate(("train", "val", "test")):
        names = ("707-320", "Cessna 172", "F/A-18")
        put(place / f"images_variant_{split}.txt", "".join(f"{k}{i} {name}\n" for i, name in enumerate(names)))
        for i in range(3):
            grey(place / f"images/{k}{i}.jpg", 20 * k + 60 * i)
        out[split] = [(name, 20 * k + 60 * i) for i, name in enumerate(names)]
    return out


@writer
def voc2007(root, monkeypatch):
    place, out = root / "VOCdevkit/VOC2007", {}
    # class and "difficult" of each object
    scenes = ([("dog", 0), ("dog", 0), ("diningtable", 1)], [("diningtable", 0), ("dog", 0)], [("tvmonitor", 0)])
    shown = (("dog",), ("dining table", "dog"), ("television or monitor",))
    for k, split in enumerate(("train", "val", "test")):
        numbers = [f"00{k}{i:03d}" for i in range(3)]
        put(place / f"ImageSets/Main/{split}.txt", "\n".join(numbers) + "\n")
        for i, number in enumerate(numbers):
            grey(place / f"JPEGImages/{number}.jpg", 20 * k + 60 * i)
            objects = "".join(
                f"<object><name>{name}</name><difficult>{d}</difficult><part><name>head</name></part></object>"
                for name, d in scenes[i]
            )
            put(place / f"Annotations/{number}.xml", f"<annotation><folder>VOC2007</folder>{objects}</annotation>")
        out[split] = [(shown[i], 20 * k + 60 * i) for i in range(3)]
    return out


@writer
def dtd(root, monkeypatch):
    place, out = root / "dtd/dtd", {}
    for k, split in enumerate(("train", "val", "test")):
        names = ("banded", "polka-dotted")
        put(place / f"labels/{split}1.txt", "".join(f"{name}/{name}_{k}.jpg\n" for name in names))
        for i, name in enumerate(names):
            grey(place / f"images/{name}/{name}_{k}.jpg", 20 * k + 100 * i)
        out[split] = [(name, 20 * k + 100 * i) for i, name in enumerate(names)]
    return out


@writer
def pets(root, monkeypatch):
    place, out = root / "oxford-iiit-pet", {}
    for split, ours, value in (("trainval", "train", 10), ("test", "test", 20)):
        # breeds are numbered by name, cats (capitalised) and dogs in one row
        names = [("Abyssinian", 1, 1), ("american_bulldog", 2, 2)]
        put(
            place / f"annotations/{split}.txt",
            "".join(f"{n}_{value} {label} {kind} 1\n" for n, label, kind in reversed(names)),
        )
        for n, label, _ in names:
            grey(place / f"images/{n}_{value}.jpg", value + 60 * label)
        out[ours] = [("Abyssinian", value + 60), ("American Bulldog", value + 120)]
    return out


@writer
def caltech101(root, monkeypatch):
    place, names = root / "caltech101/101_ObjectCategories", ("BACKGROUND_Google", "Faces_easy", "water_lilly")
    for i, name in enumerate(names):
        for j in range(31 + i):
            grey(place / name / f"image_{j + 1:04d}.jpg", 60 * i)
    ours = ("no object in particular", "person's face, close up", "water lily")
    return {
        "train": [(name, 60 * i) for i, name in enumerate(ours) for _ in range(30)],
        "test": [(name, 60 * i) for i, name in enumerate(ours) for _ in range(1 + i)],
    }


@writer
def flowers102(root, monkeypatch):
    io = pytest.importorskip("scipy.io")
    import torchvision

    place = root / "flowers-102"
    for i in range(1, 7):
        grey(place / f"jpg/image_{i:05d}.jpg", 30 * i)
    io.savemat(place / "imagelabels.mat", {"labels": [[60, 1, 60, 1, 60, 102]]})
    io.savemat(place / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[6, 5]]})
    files = {"image": ("102flowers.tgz", "")}
    files |= {key: (name, md5(place / name)) for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))}
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", files)
    a, b, c = "pink and yellow dahlia", "pink primrose", "blackberry lily"
    return {"train": [(a, 30), (b, 60)], "val": [(a, 90), (b, 120)], "test": [(c, 180), (a, 150)]}


@writer
def mnist(root, monkeypatch):
    place, out = root / "MNIST/raw", {}
    for file, split, first in (("train", "train", 0), ("t10k", "test", 20)):
        values, labels = [first, first + 60, first + 120], [7, 0, 9]
        pixels = np.repeat(np.array(values, np.uint8), 28 * 28).tobytes()
        numbers = [int(n).to_bytes(4, "big") for n in (0x803, 3, 28, 28)]
        put(place / f"{file}-images-idx3-ubyte", b"".join(numbers) + pixels)
        put(place / f"{file}-labels-idx1-ubyte", (0x801).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(labels))
        out[split] = [(str(label), value) for label, value in zip(labels, values)]
    return out


@writer
def fer2013(root, monkeypatch):
    import torchvision

    path = root / "fer2013/fer2013.csv"
    rows = [(0, 10, "Training"), (6, 20, "Training"), (3, 30, "PublicTest"), (1, 40, "PrivateTest")]
    put(path, "emotion,pixels,Usage\n" + "".join(f"{e},{' '.join([str(v)] * 48 * 48)},{u}\n" for e, v, u in rows))
    files = torchvision.datasets.FER2013._RESOURCES | {"fer": ("fer2013.csv", md5(path))}
    monkeypatch.setattr(torchvision.datasets.FER2013, "_RESOURCES", files)
    return {"train": [("angry", 10), ("calm", 20)], "test": [("happy", 30), ("disgusted", 40)]}


@writer
def stl10(root, monkeypatch):
    import torchvision

    place = root / "stl10_binary"
    for split, first in (("train", 0), ("test", 20)):
        # a column is one after the other on disk: the left half is darker by 10
        images = np.stack([np.repeat([v, v + 10], 48 * 96).reshape(96, 96) for v in (first, first + 60, first + 120)])
        put(place / f"{split}_X.bin", np.repeat(images[:, None], 3, axis=1).astype(np.uint8).tobytes())
        put(place / f"{split}_y.bin", bytes([1, 3, 2]))
    put(place / "unlabeled_X.bin", b"")
    put(place / "class_names.txt", "airplane\nbird\ncar\n")
    put(place / "fold_indices.txt", "0 2\n1 2\n")
    for kind in ("train_list", "test_list"):
        files = [[name, md5(place / name)] for name, _ in getattr(torchvision.datasets.STL10, kind)]
        monkeypatch.setattr(torchvision.datasets.STL10, kind, files)
    return {"train": [("airplane", 5), ("bird", 125)], "test": [("airplane", 25), ("car", 85), ("bird", 145)]}


@writer
def eurosat(root, monkeypatch):
    folders(root / "eurosat/2750", ("AnnualCrop", "River", "SeaLake"), 9)
    return {}  # the split is drawn


@writer
def gtsrb(root, monkeypatch):
    place = root / "gtsrb"
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for i, sign in enumerate((14, 0, 42)):
        grey(place / f"GTSRB/Final_Test/Images/0000{i}.ppm", 20 + 60 * i)
        lines.append(f"0000{i}.ppm;20;14;5;5;15;9;{sign}")
    put(place / "GT-final_test.csv", "\n".join(lines) + "\n")
    for sign in (0, 1):
        grey(place / f"GTSRB/Training/{sign:05d}/00000_00000.ppm", 10 + 60 * sign)
    limits = ["the speed limit of 20 km/h", "the speed limit of 30 km/h"]
    return {
        "train": [(limits[0], 10), (limits[1], 70)],
        "test": [("stop", 20), (limits[0], 80), ("the end of no overtaking for trucks", 140)],
    }


@writer
def country211(root, monkeypatch):
    out = {}
    for split, ours, first in (("train", "train", 0), ("valid", "val", 10), ("test", "test", 20)):
        pairs = folders(root / "country211" / split, ("AD", "GB", "XK"), first=first)
        out[ours] = named(pairs, {"AD": "Andorra", "GB": "the United Kingdom", "XK": "Kosovo"})
    return out


@writer
def pcam(root, monkeypatch):
    h5py = pytest.importorskip("h5py")
    (root / "pcam").mkdir(parents=True)
    names = ("healthy lymph node tissue", "lymph node tissue with a tumor")
    out = {}
    for k, (theirs, split) in enumerate((("train", "train"), ("valid", "val"), ("test", "test"))):
        values, labels = [20 * k, 20 * k + 60, 20 * k + 120], [1, 0, 1]
        with h5py.File(root / f"pcam/camelyonpatch_level_2_split_{theirs}_x.h5", "w") as file:
            file["x"] = np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (3, 96, 96, 3))
        with h5py.File(root / f"pcam/camelyonpatch_level_2_split_{theirs}_y.h5", "w") as file:
            file["y"] = np.array(labels, np.uint8).reshape(3, 1, 1, 1)
        out[split] = [(names[label], value) for label, value in zip(labels, values)]
    return out


@writer
def sst2(root, monkeypatch):
    names, out = ("negative", "positive"), {}
    for k, (theirs, split) in enumerate((("train", "train"), ("valid", "val"), ("test", "test"))):
        out[split] = folders(root / "rendered-sst2" / theirs, names, ending="png", first=20 * k)
    return out


@writer
def imagenet(root, monkeypatch):
    place = root / "ILSVRC2012"
    synonyms = {
        "n01440764": ("tench", "Tinca tinca"),
        "n02012849": ("crane",),
        "n03126707": ("crane",),
        "n03710637": ("maillot",),
        "n03710721": ("maillot", "tank suit"),
    }
    ours = ("tench", "crane, the bird", "crane, the machine")
    ours += ("maillot, a one-piece swimsuit with straps", "maillot, tank suit")
    place.mkdir(parents=True)
    torch.save((synonyms, list(synonyms)), place / "meta.bin")
    names = dict(zip(synonyms, ours))
    splits = {"train": folders(place / "train", synonyms, ending="jpeg", first=10)}
    splits["test"] = folders(place / "val", synonyms, ending="jpeg", first=20)
    return {split: named(pairs, names) for split, pairs in splits.items()}


def class_folders(name, names):
    def write(root, monkeypatch):
        splits = ((split, 20 * k) for k, split in enumerate(("train", "val", "test")))
        return {split: named(folders(root / name / split, names, first=first), names) for split, first in splits}

    WRITERS[name] = write


class_folders("birdsnap", {"Acadian_Flycatcher": "Acadian Flycatcher", "Blue_Jay": "Blue Jay"})
class_folders("resisc45", {"airplane": "airplane", "baseball_diamond": "baseball diamond"})
class_folders("ucf101", {"ApplyEyeMakeup": "Apply Eye Makeup", "Archery": "Archery"})
class_folders("kinetics700", {"abseiling": "abseiling", "acting in play": "acting in play"})
class_folders("hateful_memes", {"0": "kind or harmless", "1": "hateful"})
class_folders("kitti", {"0": "a car right ahead", "3": "no car at all"})
class_folders("clevr", {"3": "three", "10": "ten"})
