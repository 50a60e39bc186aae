"""Small photographs in folders and zips, for the tests of the layouts."""

import io
import shutil
import zipfile

from PIL import Image


def photograph(value=0, size=24):
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value, 100, 50)).save(file, "JPEG", quality=95)
    return file.getvalue()


def put_photographs(folder, names):
    """JPEGs of these names, each redder than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).write_bytes(photograph(4 * i))


def zipped(folder, junk=False):
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for p in sorted(folder.rglob("*")):
            archive.write(p, p.relative_to(folder))
            if junk and p.is_file():
                archive.writestr(f"__MACOSX/{p.parent.relative_to(folder)}/._{p.name}", b"\x00\x05\x16\x07")
        if junk:
            archive.writestr("Images/.DS_Store", b"junk")
            archive.writestr("Images/._hidden.jpg", b"junk")
    shutil.rmtree(folder)
    return path
