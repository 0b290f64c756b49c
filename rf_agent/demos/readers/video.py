"""Frames of video files by their time, decoded with PyAV."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.files import DemoError, reading
from rf_agent.demos.readers.parquet import AGAIN, INSTALL
from rf_agent.errors import require

FRAMES_AHEAD = 32
"""Up to so many frames are decoded to reach a later one; beyond, seeking is the cheaper way."""


class VideoFrames:
    """Reads frames of videos by time, and keeps the last few videos open.

    Frames that follow each other are decoded in one pass. It may be pickled: files are opened again elsewhere.

    Args:
        tolerance: seconds by which a frame may miss the time that is asked for: half a frame.
        limit: videos that are kept open.
    """

    def __init__(self, tolerance: float, limit: int = 6) -> None:
        self.tolerance, self.limit = tolerance, limit
        self._decoders: OrderedDict[Path, _Decoder] = OrderedDict()
        self._process = os.getpid()

    def read(self, path: Path, times: NDArray[np.float64], part: str) -> list[NDArray[np.uint8]]:
        """Frames (H, W, 3) uint8 at these times in seconds, in their order.

        Args:
            path: the video.
            times: (N,) in any order; ascending ones are the fastest.
            part: what they belong to, for messages.

        Raises:
            DemoError: the video is missing or damaged, or has no frame at one of the times.
        """
        if not path.is_file():
            raise DemoError(f"{path}, which holds images of {part}, is missing: {AGAIN}")
        found: list[Any] = [None] * len(times)
        try:
            with reading(path, part):
                decoder = self._decoder(path)
                for place in np.argsort(times, kind="stable"):
                    found[place] = decoder.frame(float(times[place]), self.tolerance)
        except Exception:
            if path in self._decoders:  # after an error nobody knows where it stands
                self._decoders.pop(path).close()
            raise
        for time, frame in zip(times, found, strict=True):
            if frame is None:
                raise DemoError(f"{path} has no frame at {time:.3f} s, which {part} needs: {AGAIN}")
        return found

    def close(self) -> None:
        """Close all videos. Those of another process (after a fork) are left alone."""
        decoders, self._decoders = self._decoders, OrderedDict()
        if self._process == os.getpid():
            for decoder in decoders.values():
                decoder.close()
        self._process = os.getpid()

    def _decoder(self, path: Path) -> _Decoder:
        if self._process != os.getpid():
            self.close()
        decoder = self._decoders.pop(path, None) or _Decoder(path)
        self._decoders[path] = decoder  # the last one used is the last one closed
        while len(self._decoders) > self.limit:
            self._decoders.popitem(last=False)[1].close()
        return decoder

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoders": OrderedDict()}


class _Decoder:
    """An open video, which remembers the frame that it decoded last."""

    def __init__(self, path: Path) -> None:
        self._container = _open(path)
        self._stream = self._container.streams.video[0]
        # Videos of robots are small: more threads cost more than they save, and training has processes of its own.
        self._stream.codec_context.thread_count = 1
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None
        self._time = -np.inf
        self._ahead: Any = None  # a frame that was decoded and not yet reached

    def frame(self, time: float, tolerance: float) -> NDArray[np.uint8] | None:
        """The frame (H, W, 3) at a time in seconds, or None if there is none."""
        ahead = time - self._time
        if ahead < -tolerance or ahead > 2 * tolerance * FRAMES_AHEAD:
            self._seek(time, tolerance)
        while self._time < time - tolerance and self._advance():
            pass
        # a video may have more frames than the data have rows: the nearest one counts
        while self._time < time - tolerance / 10 and abs(self._next_time() - time) < time - self._time:
            self._advance()
        if abs(self._time - time) > tolerance:
            return None
        if self._last.is_corrupt:
            raise ValueError("a frame is damaged")
        return np.ascontiguousarray(self._last.to_ndarray(format="rgb24"))

    def close(self) -> None:
        self._container.close()

    def _seek(self, time: float, tolerance: float) -> None:
        """Decode the key frame at or before a time. Where frames are reordered it takes more than one attempt."""
        for earlier in (0.0, 1.0, 10.0, np.inf):
            offset = round(max(0.0, time - earlier) / self._stream.time_base)
            self._container.seek(offset, stream=self._stream)
            self._frames, self._time, self._ahead = self._container.decode(self._stream), -np.inf, None
            if not self._advance() or self._time <= time + tolerance or earlier > time:
                return

    def _advance(self) -> bool:
        """Go to the next frame; False at the end of the video."""
        self._time = self._next_time()
        self._last, self._ahead = self._ahead, None
        return self._last is not None

    def _next_time(self) -> float:
        """When the next frame is shown, which is decoded for it; infinite at the end of the video."""
        if self._ahead is None:
            self._ahead = next((frame for frame in self._frames if frame.pts is not None), None)
        return np.inf if self._ahead is None else float(self._ahead.pts * self._stream.time_base)


def frame_times(path: Path) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """When the frames of a video are shown, in ascending seconds (F,), and their size (height, width).

    Nothing is decoded, but the whole file is read: what a truncated one lacks is not among them.

    Raises:
        DemoError: it is missing or damaged, or holds no video.
    """
    if not path.is_file():
        raise DemoError(f"{path} is missing: {AGAIN}")
    with reading(path), _open(path) as container:
        stream = container.streams.video[0]
        size = stream.codec_context.height, stream.codec_context.width
        packets = (packet for packet in container.demux(stream) if packet.pts is not None)
        times = [float(p.pts * stream.time_base) for p in packets if not (p.is_corrupt or p.is_discard)]
    return np.sort(np.array(times, np.float64)), size


def without_frame(shown: NDArray[np.float64], wanted: NDArray[np.float64], tolerance: float) -> int:
    """How many of the times `wanted` (N,) are further than `tolerance` from all of `shown` (F,), which ascend."""
    if not len(shown):
        return len(wanted)
    after = np.searchsorted(shown, wanted).clip(max=len(shown) - 1)
    distances = np.minimum(np.abs(shown[after] - wanted), np.abs(shown[np.maximum(after - 1, 0)] - wanted))
    return int((~(distances <= tolerance)).sum())


def _open(path: Path) -> Any:
    # By their content, FFmpeg takes play lists for videos, too: those name other files, and addresses in the network.
    return require("av", "reading videos", INSTALL).open(str(path.absolute()), format="mp4")
