"""CUDA graphs on a stand-in for a GPU: captured work is recorded, and a launch repeats it."""

COUNTED = ("uploads", "uploaded", "downloads", "downloaded", "kernels")


class Stream:
    """``pycuda.driver.Stream``. Work runs when it is put on it, or is recorded during a capture."""

    handle = 77

    def __init__(self):
        self.recording = None
        self.counts = dict.fromkeys(COUNTED, 0)

    def put(self, work, **counts):
        """``counts`` are added to ``counts`` each time that the work runs."""

        def step():
            for name, value in counts.items():
                self.counts[name] += value
            work()

        if self.recording is None:
            step()
        else:
            self.recording.append(step)

    def synchronize(self):
        assert self.recording is None, "a stream that captures cannot be waited for"


class Capturing:
    """``posgan_edge_kernels.cuda`` as far as capturing goes. ``streams``: those that there are."""

    CudaError = RuntimeError

    def __init__(self, streams, graphs=True):
        self.launches = 0
        outer = self

        class Graph:
            def __init__(self, handle, work):
                (stream,) = (s for s in streams if s.handle == handle)
                if not graphs:
                    raise outer.CudaError("cannot be captured")
                stream.recording = []
                try:
                    work()
                finally:
                    self.steps, stream.recording = stream.recording, None

            def launch(self):
                outer.launches += 1
                for step in self.steps:
                    step()

            def close(self):
                self.steps = []

        self.Graph = Graph
