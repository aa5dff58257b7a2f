"""A web service over an exported model: it names the class of a picture, and learns new class names while it runs.

    MODEL=model.onnx uvicorn --app-dir examples/serve serve:app

The process has no torch. A new name is encoded by `laat anchors --like`, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from threading import Lock
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, UploadFile
from predict import NO_PICTURE, Model, read_anchors, read_image

model = Model(os.environ.get("MODEL", "model.onnx"), os.environ.get("ANCHORS"))
adding = Lock()
app = FastAPI(title="laat")


@app.get("/classes")
def classes() -> list[str]:
    """The names of all classes."""
    return model.classes[0]


@app.put("/classes/{name:path}")
def add_class(name: str) -> list[str]:
    """Add a class by its name."""
    name = " ".join(name.split())
    with adding, tempfile.TemporaryDirectory() as folder:
        if not name:
            raise HTTPException(422, "the name is empty")
        if name.casefold() in map(str.casefold, model.classes[0]):
            raise HTTPException(409, f"there is a class '{name}'")
        new, names = Path(folder, "new.st"), Path(folder, "names.txt")
        names.write_text(name, encoding="utf-8")
        command = ["laat", "anchors", "--classes", names.name, "--like", model.anchors, "-o", new.name, "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HTTPException(422, json.loads(done.stderr.splitlines()[-1])["what"])
        model.add(*read_anchors(new))
    return model.classes[0]


@app.post("/predict")
def predict(file: UploadFile, top: Annotated[int, Query(ge=1)] = 5) -> list[dict[str, str | float]]:
    """The most likely classes of a picture, with their confidence."""
    try:
        image = read_image(file.file, model.record["images"]["size"])
    except NO_PICTURE as error:
        raise HTTPException(422, "the file is not a picture that can be read") from error
    return [{"class": name, "confidence": round(share, 4)} for name, share in model.predict(image, top)]
