"""Keeps the model open that the shadow `models` names, and opens it anew when that changes."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from model import File, Model
from nucleus import Named, NoShadowsError, Nucleus

log = logging.getLogger("consumer")

_OPEN_AGAIN = 1.0
"""Seconds until what could not be opened is tried again."""
_ASK_AGAIN = 10.0
"""Seconds until a shadow service that did not answer is asked again."""
_LOOK_AGAIN = 60.0
"""Seconds after which the shadow is read again though nothing was heard of it."""


class Consumer:
    """Stands for an inference server: it has one model open, and works with that."""

    def __init__(self, nucleus: Nucleus) -> None:
        self._nucleus = nucleus
        self._model: Model | None = None
        self._opened: tuple[str, Named] | None = None
        """The id of the model that is open, and what the shadow said of it."""
        self._said = ""

    def run(self) -> None:
        """Follow the shadow until the nucleus is lost."""
        while not self._nucleus.lost:
            self._nucleus.news.clear()
            try:
                pause = _LOOK_AGAIN if self._follow() else _OPEN_AGAIN
            except NoShadowsError as error:
                self._say(f"no ShadowManager answers, which has the shadow: {error}")
                pause = _ASK_AGAIN
            self._nucleus.news.wait(pause)

    def _follow(self) -> bool:
        """Have open what is named now; returns whether that is so."""
        model_id = self._nucleus.model_id()
        named = self._nucleus.named(model_id)
        if named is None:
            self._close()
            self._say(f"the shadow names no model {model_id}")
        elif self._opened != (model_id, named):
            return self._open(model_id, named)
        return True

    def _open(self, model_id: str, named: Named) -> bool:
        """Open what is named, unless it is not there; what is open until then serves on."""
        with ExitStack() as stack:
            try:
                model = Model(Path(named.local_path))
                stack.callback(model.close)
                files = model.read()
            except OSError as error:
                self._say(f"{model_id} {named.version} cannot be opened yet: {error}")
                return False
            if self._nucleus.named(model_id) != named or not model.is_at_its_path():
                self._say(f"{model_id} {named.version} was replaced while it was opened")
                return False
            stack.pop_all()
        self._close()
        self._model, self._opened, self._said = model, (model_id, named), ""
        log.info("opened %s", _described(model_id, named, files))
        return True

    def _close(self) -> None:
        if self._model is not None and self._opened is not None:
            self._model.close()
            log.info("closed %s %s", self._opened[0], self._opened[1].version)
        self._model = self._opened = None

    def _say(self, sentence: str) -> None:
        """Log why nothing was opened, once for each reason."""
        if sentence != self._said:
            log.info("%s", sentence)
        self._said = sentence


def _described(model_id: str, named: Named, files: dict[str, File]) -> str:
    """One line of JSON on what is open now."""
    contents = {name: file._asdict() for name, file in files.items()}
    return json.dumps({"model_id": model_id, **named._asdict(), "files": contents})


def main() -> int:
    """Run; returns the exit status, which tells the nucleus to start it again."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        Consumer(Nucleus(os.environ["AWS_IOT_THING_NAME"])).run()
        log.error("the nucleus is lost")
    except KeyError as error:
        log.error("%s is missing: is this started by a nucleus, and ModelId configured?", error)
    except Exception as error:
        log.error("no work with this nucleus: %r", error)
    return 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # at once: the SDK's threads may still wait for a nucleus that is gone
