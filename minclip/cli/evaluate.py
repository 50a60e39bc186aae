"""minclip eval computes retrieval and zero-shot accuracy; minclip probe trains linear classifiers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import DataConfig, need
from ..course.plots import few_shot_curve, task_bars
from ..data import open_data
from ..data.stream import evaluation
from ..evaluate import final_figures
from ..evaluate.probe import crossing, few_shot, linear_probe
from ..evaluate.tasks import probe_sets, run_tasks, task_names
from ..training.run import read_learnt, read_run_config
from ..weights.folder import find_folder, look_up
from ..weights.openai import OPENAI
from .shared import Download, RunArgument, console, find_run, open_model, print_table, save_picture


@dataclass(frozen=True)
class Data:
    """Images with captions, in place of those of the run."""

    name: str = ""  # own, flickr8k, flickr30k, shapes or shards; by default the run's, and own for a model
    root: str = ""  # the folder, zip or table
    image_column: str = ""  # the image column of your own table, if it has an unusual name
    caption_column: str = ""  # the caption column of your own table, or field of shards, if it has an unusual name


@dataclass(frozen=True)
class Eval:
    """Compute a run's final figures again: retrieval in both directions, and zero-shot accuracy, beside chance.

    With --data.root, compute them for any model, on your own images; with --tasks, evaluate any model zero-shot.
    """

    run_folder: RunArgument
    data: Data = Data()
    # train, val, test or all; by default test, but all for images that are not the run's and name no test split
    split: str = ""
    root: str = ""  # where the photographs are, if they were moved; with --tasks, the folder of the paper's data sets
    # the paper's data sets (cifar10,food101), shapes (all tasks of the shapes world), all (all data sets in --root), or
    # paths of your own class folders, PATH/<class>/<image> or PATH/test/<class>/<image>
    tasks: str = ""
    classes: str = ""  # a file of readable names for class folders: a line "folder,name" for each, or JSON
    templates: str = ""  # a file of prompts in place of the task's own, one a line, with {} for the class
    download: Download = False
    out: str = ""  # the folder for tasks.png; by default the run's folder, or the current one

    def run(self) -> dict[str, Any]:
        if self.tasks:
            need(self.data == Data() and not self.split, "--tasks excludes --data and --split: leave those out")
            return self.run_tasks()
        stray = self.classes or self.templates or self.download or self.out
        need(not stray, "--classes, --templates, --download and --out belong to --tasks: for example --tasks cifar10")
        name, folder = self.run_folder, find_run(self.run_folder)
        given = {k: v for k, v in {**vars(self.data), "root": self.data.root or self.root}.items() if v}
        is_model = not folder and (look_up(name) or name in OPENAI or (name.count("/") == 1 and name[:5] != "runs/"))
        add = "add --data.root PATH (images with captions) or --tasks PATH (class folders)"
        need(given or not is_model, f"{name} is not a run, so it has no data of its own: {add}")
        data = DataConfig("own") if given and not folder else read_run_config(find_folder(name)).data
        model, _, tokenizer = open_model(name)
        # the shapes world is painted, and has no root
        others = not folder or self.data.name or (self.data.root and data.name == "shapes")
        data = DataConfig(self.data.name or "own") if others else data
        opened = open_data(replace(data, **given, image_size=model.config.vision.image_size))
        split = self.split or ("all" if others and not opened.names_test else "")  # the run was not trained on these
        splits = {split: opened.load(split)} if split else evaluation(opened)
        for note in dict.fromkeys(note for pairs in splits.values() for note in pairs.notes):
            console.print(f"note: {note}")
        figures = final_figures(model, tokenizer, splits, trained_on=read_learnt(folder) if folder else ())
        print_figures(figures)
        return {"run": str(folder or name), "figures": figures}

    def run_tasks(self) -> dict[str, Any]:
        names = task_names(self.tasks, self.root)
        files = {key: getattr(self, key) for key in ("root", "download", "classes", "templates")}
        done = run_tasks(open_model(self.run_folder), names, **files)
        rows = [(n, r.metric, f"{r.score:.1%}", f"{r.chance:.1%}", f"{r.images:,}", r.classes) for n, r in done.items()]
        print_table(("", "metric", "score", "chance", "images", "classes"), rows, title="zero-shot")
        console.print(*(f"{note}\n" for r in done.values() for note in r.notes), sep="", end="")
        picture = save_picture(task_bars(done), "tasks.png", self.out, run=self.run_folder)
        return {"run": self.run_folder, "tasks": {n: r._asdict() for n, r in done.items()}, "file": picture}


@dataclass(frozen=True)
class Probe:
    """Measure how many labeled images zero-shot is worth, with linear probes on all images and on k per class."""

    run_folder: RunArgument
    # a task of the shapes world (shape, colour, count, colour+shape, …), a data set of the paper (cifar10, …), or the
    # path of your own class folders: PATH/train/<class>/<image> and PATH/test/…, or PATH/<class>/<image>
    task: str = "shape"
    classes: str = ""  # a file of readable names for class folders: a line "folder,name" for each, or JSON
    templates: str = ""  # a file of prompts in place of the task's own, one a line, with {} for the class
    shots: str = "1,2,4,8,16"  # the values of k, separated by commas
    repeats: int = 10  # random draws of k images per class
    root: str = ""  # the folder of the paper's data sets
    download: Download = False
    out: str = ""  # the folder for few-shot.png; by default the run's folder, or the current one

    def run(self) -> dict[str, Any]:
        ks = sorted({int(k) if k.strip().isdecimal() else 0 for k in self.shots.split(",")})
        got = f"--shots {self.shots!r} --repeats {self.repeats}"
        need(min(*ks, self.repeats) > 0, f"{got}: give whole numbers of at least 1, several for --shots: 1,2,4")
        model = open_model(self.run_folder)
        files = {key: getattr(self, key) for key in ("root", "download", "classes", "templates")}
        sets, zero_shot = probe_sets(model, self.task, shots=ks[-1], **files)
        few, probe = few_shot(**sets, ks=ks, repeats=self.repeats), linear_probe(**sets)
        worth = crossing({k: few[k]["mean"] for k in ks}, zero_shot.score)

        sizes = [f"{len(sets[key][1]) if key in sets else 0:,} {key}" for key in ("train", "val", "test")]
        console.print(f"{self.task}: images {', '.join(sizes)}", *zero_shot.notes, "", sep="\n")
        rows = [("chance", f"{zero_shot.chance:.1%}"), ("zero-shot", f"{zero_shot.score:.1%}")]
        rows += [(f"{k} per class", f"{f['mean']:.1%} ± {100 * f['std']:.1f}", f"{f['c']:.2g}") for k, f in few.items()]
        rows.append(("linear probe, all images", f"{probe['accuracy']:.1%}", f"{probe['c']:.2g}"))
        print_table(("", zero_shot.metric, "C"), rows)
        value = f"more than {ks[-1]}" if worth is None else f"at most {ks[0]}" if worth == ks[0] else f"{worth:.1f}"
        finding = f"zero-shot is worth {value} labeled image{'s' * (value[-2:] != ' 1')} per class"
        finding = finding if zero_shot.score > zero_shot.chance else "zero-shot is not above chance"
        console.print(f"\n{finding}")
        curve, marks = {k: few[k]["accuracies"] for k in ks}, {"crossing": worth, "probe": probe["accuracy"]}
        title = f"{Path(self.task).name or self.task}: {finding}"
        figure = few_shot_curve(curve, zero_shot.score, title, chance=zero_shot.chance, **marks)
        picture = save_picture(figure, "few-shot.png", self.out, run=self.run_folder)
        result = {"task": self.task, "metric": zero_shot.metric, "chance": zero_shot.chance, "crossing": worth}
        result |= {"zero_shot": zero_shot.score, "probe": {key: probe[key] for key in ("accuracy", "c")}}
        return {**result, "few_shot": {str(k): few[k] for k in ks}, "picture": picture}


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Prints retrieval and zero-shot accuracy beside chance, for each split; a figure that a run lacks stays empty."""

    def cell(figures: dict[str, float], key: str) -> str:
        form = "{:g}" if "rank" in key else "{:.1%}" if "/" in key or "@" in key else "{:,}"
        return form.format(figures[key]) if key in figures else ""

    every, rows = figures.values(), []
    for key in dict.fromkeys(k for f in every for k in f if k not in ("loss", "mean_recall") and k[:7] != "chance/"):
        name = key.replace("_r@", " recall@").replace("_median_", " median ").replace("_", "-").replace("/", " ")
        rows.append((name, *(cell(f, k) for f in every for k in (key, f"chance/{key.removeprefix('zero_shot/')}"))))
    columns = [column for split in figures for column in (split, "chance")]
    print_table(("", *columns), rows, title="retrieval, counting all captions, and zero-shot accuracy")
