"""A real RTSP server (GStreamer's). It needs the Python of the system, which has ``gi``.

``rtsp_server.py live PORT TRANSPORT [USER PASSWORD]``: a test picture in motion, 30 frames a
second, encoded as it is sent. ``rtsp_server.py FILE.mp4 PORT TRANSPORT``: an MP4 file, whose length
the server states (SDP). Port 0 takes a free one. TRANSPORT is the only one that the server allows,
tcp or udp. The address is written to standard output as soon as the server listens.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

LIVE = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1,"
    "format=I420 ! openh264enc gop-size=30 complexity=low ! h264parse ! "
    "rtph264pay name=pay0 pt=96 config-interval=1"
)
FILE = "filesrc location={file} ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96"


def main(what: str, port: str, transport: str, user: str = "", password: str = "") -> None:
    """Serves until the process is ended."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( " + (LIVE if what == "live" else FILE.format(file=what)) + " )")
    factory.set_shared(what == "live")
    lower = GstRtsp.RTSPLowerTrans
    factory.set_protocols(lower.TCP if transport == "tcp" else lower.UDP)
    if user:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.from_string(
                "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
            )[0]
        )
    server.get_mount_points().add_factory("/stream", factory)
    if not server.attach(None):
        sys.exit(f"port {port} cannot be used")
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/stream", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
