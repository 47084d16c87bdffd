# The list of what the package exports; __init__.py reads it, one import a line.
from posgan_edge.engines.base import Engine as Engine
from posgan_edge.engines.base import EngineInfo as EngineInfo
from posgan_edge.engines.loader import load_engine as load_engine
from posgan_edge.errors import BadInput as BadInput
from posgan_edge.errors import PosganError as PosganError
from posgan_edge.faces.camera import MetricPose as MetricPose
from posgan_edge.faces.camera import camera_matrix as camera_matrix
from posgan_edge.faces.camera import metric_pose as metric_pose
from posgan_edge.faces.camera import weak_perspective as weak_perspective
from posgan_edge.faces.detector import Detector as Detector
from posgan_edge.faces.detector import GivenBoxes as GivenBoxes
from posgan_edge.faces.detector import MediaPipeDetector as MediaPipeDetector
from posgan_edge.faces.expression_basis import ARKIT_NAMES as ARKIT_NAMES
from posgan_edge.faces.expression_track import ExpressionTrack as ExpressionTrack
from posgan_edge.faces.expression_track import blendshapes as blendshapes
from posgan_edge.faces.pipeline import FacePipeline as FacePipeline
from posgan_edge.faces.smoothing import FaceSmoother as FaceSmoother
from posgan_edge.faces.smoothing import Smoothing as Smoothing
from posgan_edge.faces.together import track_together as track_together
from posgan_edge.faces.tracker import FaceTracker as FaceTracker
from posgan_edge.faces.values import Face as Face
from posgan_edge.faces.values import Frame as Frame
from posgan_edge.geometry.crop import Crop as Crop
from posgan_edge.geometry.landmarks import LANDMARK_NAMES as LANDMARK_NAMES
from posgan_edge.geometry.landmarks import openness as openness
from posgan_edge.geometry.layout import UvLayout as UvLayout
from posgan_edge.geometry.layout import load_layout as load_layout
from posgan_edge.geometry.mesh import Mesh as Mesh
from posgan_edge.geometry.mesh import face_mesh as face_mesh
from posgan_edge.geometry.pose import Pose as Pose
from posgan_edge.geometry.pose import fit_pose as fit_pose
from posgan_edge.geometry.values import FaceBox as FaceBox
from posgan_edge.geometry.values import PositionMap as PositionMap
from posgan_edge.images import read_image as read_image
from posgan_edge.jobs.parquet import read_faces as read_faces
from posgan_edge.render.dense import depth_map as depth_map
from posgan_edge.render.dense import face_mask as face_mask
from posgan_edge.render.dense import uv_texture as uv_texture
from posgan_edge.render.draw import draw_faces as draw_faces
from posgan_edge.render.meshes import save_mesh as save_mesh

__version__: str
__all__: list[str]
