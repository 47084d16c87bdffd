"""A window on the desktop."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import MissingRuntime
from posgan_edge.live.sinks.base import Result, Sink


class WindowSink(Sink):
    """Shows the newest drawn frame. Windows need the main thread: call ``pump`` there.

    ``hold``: each frame stays until a key is typed. Windows of one ``title`` are one window.
    """

    name = "window"
    draws = True

    def __init__(self, hold: bool = False, title: str = "posgan-edge") -> None:
        self.hold, self.title = hold, title
        self._canvas: Image | None = None
        self._lock = threading.Lock()
        self._fresh = False

    def write(self, result: Result) -> None:
        canvas = result.drawn
        with self._lock:
            if self._canvas is None or self._canvas.shape != canvas.shape:
                self._canvas = canvas.copy()
            else:
                np.copyto(self._canvas, canvas)
            self._fresh = True

    def pump(self, wait_ms: int = 1) -> bool:
        """Shows what is new; False once the user closes the window or types q. Waits ``wait_ms``
        milliseconds for a key; 0 waits until there is one."""
        try:
            with self._lock:
                if self._fresh and self._canvas is not None:
                    cv2.imshow(self.title, self._canvas)
                shown, self._fresh = self._canvas is not None, False
            if not shown:
                return True
            key = cv2.waitKey(wait_ms) & 0xFF
            visible = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error as error:
            raise MissingRuntime("this OpenCV cannot open a window: run without one") from error
        return visible and key not in (ord("q"), 27)

    def close(self) -> None:
        if self._canvas is not None:
            cv2.destroyAllWindows()
