"""What is wrong with recordings of targets: found, named by the recording's name, and without harm to the calibration."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from rakelight.acquisition.simulator.solid import Pose
from rakelight.calibration.boards import Board
from rakelight.calibration.rig_calibration import RigCalibration
from rakelight.calibration.views import View
from rakelight.dataset.recording import Description, Frame, Recording, Shot
from rakelight.dataset.recording_writer import write_recording
from rakelight.errors import CalibrationError
from rakelight.pipeline import calibrate_rig as glue
from rakelight.pipeline.calibrate_rig import RigReport, calibrate_rig
from rakelight.pipeline.rig_report import criteria
from rakelight.pipeline.simulate import Settings, simulate
from rakelight.reconstruction.models import AffineCamera, PinholeCamera, Plane
from rakelight.reconstruction.patterns import PatternSet

pytestmark = pytest.mark.slow
WIDTH, POSES = 456, 7
BOARD = Board("charuco", (10, 7), 4.0, 3.0, "DICT_4X4_50")
PLATE_MM = 0.01
HARM_UM = 3.0  # the bar of the height bias
Change = Callable[[Shot, NDArray[Any]], NDArray[Any]]


def load_benchmark(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


benchmark, synthetic = load_benchmark("rig_from_targets"), load_benchmark("rig_calibration")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("targets")
    both = Settings(width=WIDTH, pattern_set=PatternSet(axes=("column", "row")), samples=2)
    bare = Settings(width=WIDTH, pattern_set=None, samples=2)
    simulate("charuco", home / "pose0", seed=0, settings=both)
    truth = true_rig(home)
    for seed in range(1, POSES):
        simulate("charuco", home / f"pose{seed}", seed=seed, settings=both, calibration=truth)
    for seed in range(2):
        simulate("chrome_spheres", home / f"spheres{seed}", seed=seed, settings=bare, calibration=truth)
    simulate("white_plane", home / "white", settings=replace(bare, pattern_set=PatternSet()), calibration=truth)
    simulate("step_gauge", home / "stairs", settings=replace(bare, pattern_set=PatternSet()), calibration=truth)
    for k in range(4):  # lying flat, turned and moved, never tilted
        lying = Pose(3.0 * k - 4.0, 1.0 - k, 4.0 * k, 0.5 + k)
        simulate("charuco", home / f"lying{k}", seed=k, pose=lying, settings=bare, calibration=truth)
    return home


@pytest.fixture(scope="module", autouse=True)
def nothing_is_worked_out_twice() -> Iterator[None]:
    """Recordings do not change: views, and solutions of the same views, are kept, since a test changes one thing each."""
    known: dict[Any, Any] = {}

    def kept(name: str, key_of: Callable[..., Any]) -> Callable[..., Any]:
        plain = getattr(glue, name)

        def call(*args: Any, **settings: Any) -> Any:
            key = name, key_of(*args), str(settings)
            if key not in known:
                known[key] = plain(*args, **settings)
            return known[key]

        return call

    def by_views(views: Sequence[View], board: Board, *_: Any) -> Any:
        return board, tuple((v.name, v.uv.tobytes(), *(c.tobytes() for c in v.colrow.values())) for v in views)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glue, "view_of", kept("view_of", lambda recording, board: (recording.folder, board)))
        for name in ("solve_camera", "solve_rig"):
            patch.setattr(glue, name, kept(name, by_views))
        yield


@pytest.fixture(scope="module")
def clean_bias(targets: Path) -> float:
    return bias_um(calibrated(targets), targets)


def true_rig(targets: Path) -> RigCalibration:
    return RigCalibration.load(targets / "pose0" / "truth" / "calibration")


def poses(targets: Path, count: int = POSES) -> list[Path]:
    return [targets / f"pose{k}" for k in range(count)]


def calibrated(
    targets: Path,
    boards: Sequence[Path] | None = None,
    others: Sequence[Path] | None = None,
    *,
    board: Board = BOARD,
    **settings: Any,
) -> RigReport:
    """From all poses and the white plane, unless others are given."""
    folders = [*(poses(targets) if boards is None else boards), *([targets / "white"] if others is None else others)]
    return calibrate_rig([Recording.open(folder) for folder in folders], "x", board, plate_mm=PLATE_MM, **settings)


def bias_um(report: RigReport, targets: Path) -> float:
    """Worst mean error of heights 0 to 8 mm over the field, of any projector or their mean."""
    return float(benchmark.heights(report.calibration, true_rig(targets))["height_bias_um"])


def recorded_anew(source: Path, folder: Path, change: Change, **facts: Any) -> Path:
    """A recording with every frame changed, and other facts in its description."""
    recording = Recording.open(source)
    known = {name: getattr(recording.info, name) for name in Description.model_fields} | facts
    shots = {shot.name: shot for shot in recording.info.plan}
    measured = set(Frame.model_fields) - {"shot", "file", "bytes", "sha256"}
    with write_recording(folder, Description.model_validate(known)) as writer:
        for frame in recording.info.frames:
            image = change(shots[frame.shot], recording.read(frame))
            writer.add(frame.shot, image, **{name: getattr(frame, name) for name in measured})
    return folder


def by_site(image: NDArray[Any], filtered: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """A filter on each colour of the Bayer mosaic by itself."""
    out = image.astype(np.float64)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        out[row::2, column::2] = filtered(out[row::2, column::2])
    return np.clip(np.rint(out), 0, 4095).astype(image.dtype)


def told(report: RigReport, name: str) -> str:
    """The warnings of the calibration that name a recording."""
    return "\n".join(line for line in report.calibration.warnings if name in line)


def verdict(report: RigReport, name: str) -> str:
    return next(c.verdict for c in criteria(report) if c.name == name)


# ----------------------------------------------------------------------------------------------------------- the poses
def test_a_clean_set_is_in_the_bar(clean_bias: float) -> None:
    assert clean_bias < HARM_UM


def test_one_corner_12_px_off_is_named(targets: Path, clean_bias: float, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = glue.view_of

    def view_of(recording: Recording, board: Board) -> View:
        view = measured(recording, board)
        if recording.folder.name != "pose4":
            return view
        uv = view.uv.copy()
        uv[list(view.ids).index(23)] += (7.2, -9.6)
        return replace(view, uv=uv)

    monkeypatch.setattr(glue, "view_of", view_of)
    report = calibrated(targets)
    assert "corner 23 (12 px off)" in told(report, "pose4")
    assert report.rig is not None
    assert not report.rig.kept[report.rig.names.index("pose4")][:, 23].any()
    assert abs(bias_um(report, targets) - clean_bias) < 0.5


def test_a_covered_corner_does_no_harm(targets: Path, clean_bias: float, tmp_path: Path) -> None:
    view = glue.view_of(Recording.open(targets / "pose2"), BOARD)
    u, v = view.uv[20]

    def blemish(_shot: Shot, image: NDArray[Any]) -> NDArray[Any]:
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        return np.where(np.hypot(columns - u - 4, rows - v - 3) < 9, image // 8, image).astype(image.dtype)

    spotted = recorded_anew(targets / "pose2", tmp_path / "spotted", blemish)
    report = calibrated(targets, [*poses(targets, 2), spotted, *poses(targets)[3:]])
    number, k = int(view.ids[20]), list(report.camera.names).index("spotted")
    ids, kept = report.views[report.camera.used[k]].ids, report.camera.kept[k]
    assert number not in ids or not kept[list(ids).index(number)]
    assert abs(bias_um(report, targets) - clean_bias) < 1.0


def test_a_pose_recorded_twice_counts_once(targets: Path, clean_bias: float, tmp_path: Path) -> None:
    def noisier(shot: Shot, image: NDArray[Any]) -> NDArray[Any]:
        noise = np.random.default_rng(hash(shot.name) % 1000).normal(0.0, 3.0, image.shape)
        return np.clip(np.rint(image + noise), 0, 4095).astype(image.dtype)

    again = recorded_anew(targets / "pose3", tmp_path / "again", noisier, part_id="another")
    shutil.copytree(targets / "pose5", tmp_path / "pose5")
    report = calibrated(targets, [*poses(targets), again, tmp_path / "pose5", targets / "pose1"])
    assert "pose1 (2) has the frames of pose1" in told(report, "pose1 (2)")
    assert "again repeats the pose of pose3" in told(report, "again")
    copied = f"{tmp_path.name}/pose5"
    assert f"{copied} has the frames of {targets.name}/pose5" in told(report, copied)
    assert report.calibration.quality["poses"] == POSES
    assert abs(bias_um(report, targets) - clean_bias) < 1e-3  # what is counted once changes nothing


def test_a_blurred_pose_is_left_out(targets: Path, clean_bias: float, tmp_path: Path) -> None:
    def blurred(_shot: Shot, image: NDArray[Any]) -> NDArray[Any]:
        return by_site(image, lambda site: ndimage.gaussian_filter(site, 2.0))  # 4 px of the whole frame

    soft = recorded_anew(targets / "pose6", tmp_path / "soft", blurred)
    report = calibrated(targets, [*poses(targets), soft])
    assert "left out" in told(report, "soft")
    assert "soft" not in report.camera.names
    assert abs(bias_um(report, targets) - clean_bias) < 1e-3


def test_a_board_that_moved_between_the_patterns_is_left_out(targets: Path, clean_bias: float, tmp_path: Path) -> None:
    names = [shot.name for shot in Recording.open(targets / "pose6").info.plan if shot.role == "pattern"]
    late = set(names[len(names) // 2 :])

    def moved(shot: Shot, image: NDArray[Any]) -> NDArray[Any]:
        if shot.name not in late:
            return image
        return by_site(image, lambda site: ndimage.shift(site, (0.0, 1.5), order=1, mode="nearest"))

    loose = recorded_anew(targets / "pose6", tmp_path / "loose", moved)
    report = calibrated(targets, [*poses(targets, 6), loose])
    line = told(report, "loose")
    assert "left out" in line and "did it move between the patterns" in line, line
    rig = report.rig  # the frames of projectors 3 and 4 came after the move
    assert rig is not None
    assert not rig.kept[rig.names.index("loose")][3:].any()
    assert bias_um(report, targets) < HARM_UM and abs(bias_um(report, targets) - clean_bias) < 1.5


def test_too_few_and_untilted_poses_say_what_is_missing(targets: Path) -> None:
    with pytest.raises(CalibrationError, match="2 usable poses") as few:
        calibrated(targets, poses(targets, 2))
    assert few.value.code == "calibration.too_few_poses"
    with pytest.raises(CalibrationError) as flat:
        calibrated(targets, [targets / f"lying{k}" for k in range(4)])
    assert flat.value.code == "calibration.poses_degenerate"
    assert flat.value.hint is not None
    for way in ("to the right", "to the left", "towards you", "away from you"):
        assert way in flat.value.hint


# --------------------------------------------------------------------------------------------------- board and cameras
def test_other_boards_are_told(targets: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="none of 3 recordings shows the board; pose0: ") as grid:
        calibrated(targets, poses(targets, 3), board=Board("charuco", (7, 10), 4.0, 3.0, "DICT_4X4_50"))
    assert grid.value.code == "calibration.board_mismatch" and "10 columns" in grid.value.message
    with pytest.raises(CalibrationError) as print_:
        calibrated(targets, poses(targets, 3), board=Board("charuco", (10, 7), 4.0, 2.0, "DICT_4X4_50"))
    assert print_.value.code == "calibration.board_mismatch"
    blank = recorded_anew(targets / "spheres0", tmp_path / "blank", lambda _, image: image, target="charuco")
    with pytest.raises(CalibrationError, match="blank: ") as none:
        calibrated(targets, [blank])
    assert none.value.code == "calibration.board_not_found"
    report = calibrated(targets, [*poses(targets), blank])
    assert "not found" in told(report, "blank")


def test_frames_of_another_size_are_refused(targets: Path, tmp_path: Path) -> None:
    cut = recorded_anew(targets / "pose6", tmp_path / "cut", lambda _, image: image[:-2])
    with pytest.raises(CalibrationError, match="cut: frames of 456×302") as caught:
        calibrated(targets, [*poses(targets), cut])
    assert caught.value.code == "calibration.mixed_cameras"


# ------------------------------------------------------------------------------------------------------------ the scale
SPHERES = ("spheres0", "spheres1", "white")


def test_balls_agree_with_the_board(targets: Path) -> None:
    report = calibrated(targets, others=[targets / name for name in SPHERES])
    scale = report.calibration.quality["scale"]
    assert abs(scale["ratio"] - 1) < 0.003
    assert verdict(report, "scale: balls against the board") == "PASS"
    assert not told(report, "scale contradiction")


def test_squares_declared_a_tenth_too_large_contradict_the_balls(targets: Path) -> None:
    with pytest.raises(CalibrationError, match=r"squares of 4\.4 mm.*ball of 10 mm") as caught:
        calibrated(
            targets,
            others=[targets / name for name in SPHERES],
            board=Board("charuco", (10, 7), 4.4, 3.3, "DICT_4X4_50"),
        )
    assert caught.value.code == "calibration.scale_contradiction"
    assert caught.value.hint is not None and "11.0" in caught.value.hint  # what the ball would measure


def test_squares_declared_2_percent_too_large_are_told(targets: Path) -> None:
    report = calibrated(
        targets,
        others=[targets / name for name in SPHERES],
        board=Board("charuco", (10, 7), 4.08, 3.06, "DICT_4X4_50"),
    )
    assert report.calibration.quality["scale"]["ratio"] == pytest.approx(1.02, abs=0.003)
    assert "measure +2." in told(report, "scale contradiction")
    assert verdict(report, "scale: balls against the board") == "FAIL"


# ---------------------------------------------------------------------------------------------------- spheres and whites
def shifted(pixels: int) -> Change:
    """The picture moved to the left; what comes in from the right is as its last columns."""
    return lambda _shot, image: np.concatenate([image[:, pixels:], image[:, -pixels:]], axis=1)


def test_a_sphere_beyond_the_border_is_told(targets: Path, tmp_path: Path) -> None:
    u = 104.8  # of the left one in spheres0, with a radius of 42.8 px: checked below
    cut = recorded_anew(targets / "spheres0", tmp_path / "cut", shifted(80), sphere_count=2)
    report = calibrated(targets, others=[cut, targets / "spheres1", targets / "white"])
    spheres = report.calibration.quality["spheres"]
    assert min(s["u"] for s in spheres) == pytest.approx(u - 80, abs=1.0)
    assert "the image cuts off" in told(report, "(cut)")
    gone = recorded_anew(targets / "spheres0", tmp_path / "gone", shifted(120), sphere_count=2)
    with pytest.raises(CalibrationError, match=r"sphere \d \(gone\)") as caught:  # more than half of it lies outside
        calibrated(targets, others=[gone, targets / "white"])
    assert caught.value.hint


def test_clipped_highlights_are_told(targets: Path, tmp_path: Path) -> None:
    def brighter(factor: float) -> Change:
        return lambda _shot, image: np.clip(image * factor, 0, 4095).astype(image.dtype)

    glaring = recorded_anew(targets / "spheres0", tmp_path / "glaring", brighter(60.0))
    with pytest.raises(CalibrationError, match="glaring") as caught:
        calibrated(targets, others=[glaring, targets / "white"])
    assert caught.value.code == "calibration.overexposed"


def bent(truth: RigCalibration, height_mm: float) -> Change:
    """A white plate that bulges by so much in its middle: each light reaches it more or less steeply."""
    assert isinstance(truth.camera, PinholeCamera) and truth.table_plane is not None
    v, u = np.mgrid[: truth.camera.height, : truth.camera.width].astype(np.float64)
    points = truth.table_plane.intersect(*truth.camera.rays(np.stack([u, v], axis=-1)))
    slope = -2 * height_mm * points[..., :2] / 20.0**2
    normal = np.concatenate([-slope, -np.ones((*slope.shape[:2], 1))], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    factor = {}
    for light in truth.lights:
        assert light.position_mm is not None
        to = light.position_mm - points
        factor[light.zone] = (to * normal).sum(axis=-1) / (to @ truth.table_plane.normal)

    def change(shot: Shot, image: NDArray[Any]) -> NDArray[Any]:
        if shot.role != "zone" or shot.zone is None:
            return image
        return np.clip(np.rint(image * factor[shot.zone]), 0, 4095).astype(image.dtype)

    return change


def test_a_white_plate_that_is_not_flat_is_told(targets: Path, tmp_path: Path) -> None:
    truth = true_rig(targets)
    spheres = [targets / "spheres0", targets / "spheres1"]
    # A bulge looks like nearer lights: the spheres contradict it long before the shading itself does.
    bowed = recorded_anew(targets / "white", tmp_path / "bowed", bent(truth, 1.0))
    report = calibrated(targets, others=[*spheres, bowed])
    assert "the plane is not flat" in told(report, "bowed")
    assert verdict(report, "white plane: flat") == "WARN"
    assert verdict(report, "lights: spheres against the white plane") == "FAIL"
    folded = recorded_anew(targets / "white", tmp_path / "folded", bent(truth, 4.0))
    report = calibrated(targets, others=[*spheres, folded])
    assert "not used for the positions" in told(report, "white plane folded")
    assert max(benchmark.light_angles(report.calibration, truth)) < 0.5  # the spheres alone tell them


def test_a_white_plate_that_is_not_white_is_told(targets: Path, tmp_path: Path) -> None:
    def zones_alone(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Change:
        def whole(shot: Shot, image: NDArray[Any]) -> NDArray[Any]:
            return change(image).astype(image.dtype) if shot.role == "zone" else image

        return whole

    rows, columns = np.mgrid[: WIDTH * 2 // 3, :WIDTH]
    spheres = [targets / "spheres0", targets / "spheres1"]
    chequer = (columns // 40 + rows // 40) % 2
    texts = recorded_anew(targets / "white", tmp_path / "printed", zones_alone(lambda i: i * (1 - 0.1 * chequer)))
    report = calibrated(targets, others=[*spheres, texts])
    assert "the white of the plane varies by" in told(report, "printed")
    assert verdict(report, "white plane: even white") in ("WARN", "FAIL")
    bold = recorded_anew(targets / "white", tmp_path / "bold", zones_alone(lambda i: i * (1 - 0.7 * chequer)))
    with pytest.raises(CalibrationError) as caught:
        calibrated(targets, others=[*spheres, bold])
    assert caught.value.code == "calibration.white_uneven"
    black = recorded_anew(targets / "white", tmp_path / "black", zones_alone(lambda i: i // 16))
    with pytest.raises(CalibrationError) as dark:
        calibrated(targets, others=[*spheres, black])
    assert dark.value.code == "calibration.white_dark"


# ------------------------------------------------------------------------------------------------- what else may be given
def test_without_spheres_the_dark_map_stays(targets: Path) -> None:
    report = calibrated(targets)
    assert report.lights is None and report.calibration.dark is not None and report.calibration.map_format is not None
    assert "no chrome sphere" in told(report, "white")


def test_a_table_plane_may_be_given(targets: Path) -> None:
    table = true_rig(targets).table_plane
    assert table is not None
    report = calibrated(targets, others=[], table_plane=table)
    assert report.calibration.table_plane is table and report.plane_rms_mm is None
    moved = Plane(table.normal, table.offset_mm + 5.0)
    measured = calibrated(targets, table_plane=moved).calibration.table_plane
    assert measured is not None and abs(measured.offset_mm - table.offset_mm) < 1.0  # what is measured counts


def test_a_plate_that_is_no_plane_is_named(targets: Path, tmp_path: Path) -> None:
    plate = recorded_anew(targets / "stairs", tmp_path / "crumpled", lambda _, image: image, target="flat")
    report = calibrated(targets, others=[plate])
    assert "is it flat" in told(report, "crumpled")


def test_a_telecentric_camera_is_calibrated_with_its_projectors(targets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = AffineCamera.orthographic(WIDTH, WIDTH * 2 // 3, 0.12)
    projectors = list(true_rig(targets).projectors)
    views = synthetic.simulated_views(true, projectors, BOARD, POSES, 0.03, 0)
    by_name = {f"pose{k}": view for k, view in enumerate(views)}
    monkeypatch.setattr(glue, "view_of", lambda recording, _: by_name[recording.folder.name])
    report = calibrated(targets, others=[], camera_model="affine")
    camera = report.calibration.camera
    assert isinstance(camera, AffineCamera)
    assert np.linalg.norm(camera.matrix, axis=1) == pytest.approx(np.linalg.norm(true.matrix, axis=1), rel=1e-3)
    assert len(report.calibration.projectors) == 4
    assert {c.verdict for c in criteria(report)} <= {"PASS", "WARN"}
