"""Keeps the model in the shadow `models` open, and opens it again when the shadow changes."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from model import File, Model
from nucleus import ModelEntry, NoShadowsError, Nucleus

log = logging.getLogger("consumer")

_OPEN_INTERVAL = 1.0
"""Seconds between attempts to open a model."""
_SERVICE_INTERVAL = 10.0
"""Seconds between attempts to reach the shadow service."""
_READ_INTERVAL = 60.0
"""Seconds between reads of the shadow without a notification."""


class Consumer:
    """An example of an inference server, which has one model open."""

    def __init__(self, nucleus: Nucleus) -> None:
        self._nucleus = nucleus
        self._model: Model | None = None
        self._opened: tuple[str, ModelEntry] | None = None
        """The ID of the model that is open, and its entry in the shadow."""
        self._logged = ""

    def run(self) -> None:
        """Follow the shadow until the connection to the nucleus is lost."""
        while not self._nucleus.lost:
            self._nucleus.changed.clear()
            try:
                pause = _READ_INTERVAL if self._follow() else _OPEN_INTERVAL
            except NoShadowsError as error:
                self._log_once(f"no ShadowManager answers; deploy it: {error}")
                pause = _SERVICE_INTERVAL
            self._nucleus.changed.wait(pause)

    def _follow(self) -> bool:
        """Open or close the model as the shadow says now; return whether that succeeded."""
        model_id = self._nucleus.model_id()
        entry = self._nucleus.entry(model_id)
        if entry is None:
            self._close()
            self._log_once(f"the shadow has no model {model_id}")
        elif self._opened != (model_id, entry):
            return self._open(model_id, entry)
        return True

    def _open(self, model_id: str, entry: ModelEntry) -> bool:
        """Open the model of an entry; return whether that succeeded.

        The model that was open before stays open until then.
        """
        with ExitStack() as stack:
            try:
                model = Model(Path(entry.local_path))
                stack.callback(model.close)
                files = model.read()
            except OSError as error:
                self._log_once(f"{model_id} {entry.version} cannot be opened yet: {error}")
                return False
            if self._nucleus.entry(model_id) != entry or not model.is_at_its_path():
                self._log_once(f"{model_id} {entry.version} was replaced while it was opened")
                return False
            stack.pop_all()
        self._close()
        self._model, self._opened, self._logged = model, (model_id, entry), ""
        log.info("opened %s", _description(model_id, entry, files))
        return True

    def _close(self) -> None:
        if self._model is not None and self._opened is not None:
            self._model.close()
            log.info("closed %s %s", self._opened[0], self._opened[1].version)
        self._model = self._opened = None

    def _log_once(self, sentence: str) -> None:
        """Log why no model was opened, unless it was the last thing logged."""
        if sentence != self._logged:
            log.info("%s", sentence)
        self._logged = sentence


def _description(model_id: str, entry: ModelEntry, files: dict[str, File]) -> str:
    """Return a line of JSON about the model that is open now."""
    contents = {name: file._asdict() for name, file in files.items()}
    return json.dumps({"model_id": model_id, **entry._asdict(), "files": contents})


def main() -> int:
    """Run the consumer; return the exit status 1, so that the nucleus starts it again."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        Consumer(Nucleus(os.environ["AWS_IOT_THING_NAME"])).run()
        log.error("the connection to the nucleus is lost")
    except KeyError as error:
        log.error("%s is missing; start this by a nucleus, and configure ModelId", error)
    except Exception as error:
        log.error("the nucleus cannot be used: %r", error)
    return 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # at once, because threads of the SDK may still wait for the nucleus
