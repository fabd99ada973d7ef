"""A rig calibration walked through step by step: board poses, white plate, chrome spheres, covered lens.

Each step is a plain call, for the command line as for scripts::

    with Rig.open("rig.toml") as rig:
        walk = GuidedWalk(rig, Board(), "calibration/lab.session", sphere_diameter_mm=10.0, sphere_count=2)
        while (step := walk.step) is not None:
            print(step.instruction)  # lay it under the camera
            while not (seen := walk.look()).feedback.ok:
                print(seen.feedback.verdict)
            walk.take()
    report = calibrate_rig(walk.recordings, "lab", Board(), plate_mm=3.0)

What was taken lies in the session folder; a walk of the same rig, camera setting and board goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakelight.acquisition.capture import capture
from rakelight.acquisition.feasible import within
from rakelight.acquisition.recipe import PatternRecipe
from rakelight.acquisition.rig import Rig
from rakelight.acquisition.simulated_bench import COVER
from rakelight.acquisition.single_shots import SingleShots
from rakelight.acquisition.stepped import Progress
from rakelight.calibration.boards import Board
from rakelight.calibration.corners import grey_of
from rakelight.calibration.outlines import Circle, find_spheres
from rakelight.calibration.rig_facts import FrameWindow, RigFacts, check_of_rig
from rakelight.dataset.recording import Recording, Role, Sensor
from rakelight.errors import CalibrationError, InputError, QualityError
from rakelight.pipeline.calibrate_rig import view_of
from rakelight.pipeline.guide import Feedback, Needs, Pose, judge, needs, pose_of
from rakelight.pipeline.guide_picture import write_guide_page, write_preview
from rakelight.pipeline.guide_targets import judge_dark, judge_spheres, judge_white
from rakelight.pipeline.walk_eye import Eye, Picture
from rakelight.pipeline.walk_session import KINDS, TARGETS, Kind, Session, Subject
from rakelight.pipeline.walk_steps import Step, next_step, recipe_of
from rakelight.pipeline.zone_frames import grey_mean

FloatArray = NDArray[np.float64]

PREVIEW_EVERY_S = 1.0
_LIT_ROLES: tuple[Role, Role] = ("all_zones", "zone")
_SPHERE_TURNS_DEG = (0.0, 35.0, -40.0)  # places that a simulated hand lays spheres in


@dataclass(frozen=True, eq=False)
class Look:
    """One live picture, and what is to be said of it; ``pose`` is None where it shows no board."""

    picture: Picture
    feedback: Feedback
    pose: Pose | None = None


@dataclass(frozen=True, eq=False)
class Taken:
    """What became of an attempt: the recording, or None and why it was not taken."""

    recording: Recording | None
    reason: str
    look: Look


class GuidedWalk:
    """A walk on an open rig.

    Parameters
    ----------
    rig : Rig
    board : Board
        As it is printed and measured.
    session : path
        Folder for the recordings; a session that is there is gone on with.
    recordings : sequence of Recording
        Made already; they count as poses, plate, spheres or dark by their target.
    sphere_diameter_mm, sphere_count
        Of the chrome spheres that are laid at once; without a diameter, or on a rig without lights, that step is left out.
    patterns : PatternRecipe, optional
        Code, steps and size of what the projectors show; the exposure is found, and axes are chosen, by the walk.
    progress : callable
        Told what is read when a session is gone on with.

    Raises
    ------
    CalibrationError
        ``session.…`` for a folder of something else, ``calibration.mixed_cameras`` and ``calibration.mixed_devices`` for
        recordings of another camera setting or other devices.
    """

    def __init__(
        self,
        rig: Rig,
        board: Board,
        session: str | Path,
        *,
        recordings: Sequence[Recording] = (),
        sphere_diameter_mm: float | None = None,
        sphere_count: int = 1,
        patterns: PatternRecipe | None = None,
        progress: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._rig, self.board = rig, board
        self._sphere_mm, self._sphere_count = sphere_diameter_mm, sphere_count
        self._patterns = patterns or PatternRecipe(exposure_us=1000.0)
        actual = rig.camera.configure(within(rig.camera_settings(1000.0), rig.camera.info))
        self.size = actual.width or 0, actual.height or 0
        self._given = list(recordings)
        window = FrameWindow(
            width=self.size[0],
            height=self.size[1],
            sensor=Sensor(offset_x=actual.offset_x, offset_y=actual.offset_y),
        )
        check_of_rig(
            self._given,
            RigFacts(
                rig_id=rig.settings.rig_id,
                devices=rig.identities,
                pixel_formats=(actual.pixel_format,),
                window=window,
            ),
        )
        info = rig.camera.info
        camera = f"{info.vendor} {info.model} {info.serial_number}"
        subject = Subject(
            rig.settings.rig_id,
            camera,
            *self.size,
            actual.pixel_format,
            board,
            actual.offset_x,
            actual.offset_y,
        )
        self.session = Session(session, subject)
        self._skipped: list[Kind] = []
        self._eye = Eye(rig)
        self._poses: dict[Path, Pose | None] = {}
        self._circles: dict[Path, tuple[Circle, ...]] = {}
        self._shown_s = 0.0
        self._shown_step: Step | None = None
        for recording in self._of("board"):
            progress(recording.folder.name)
            self._poses[recording.folder] = self._pose_of(recording)
        write_guide_page(self.session.folder)

    # ----------------------------------------------------------------------------------------------------- where it is
    def _of(self, kind: Kind) -> list[Recording]:
        given = [r for r in self._given if TARGETS.get(r.info.target) == kind]
        return given + self.session.recordings(kind)

    @property
    def recordings(self) -> list[Recording]:
        """Everything that the calibration is to be made of: what was given, and what was taken."""
        return self._given + [r for kind in KINDS for r in self.session.recordings(kind)]

    @property
    def poses(self) -> list[Pose]:
        """The board poses so far, as far as the board was found in them."""
        return [pose for pose in self._poses.values() if pose is not None]

    @property
    def needs(self) -> Needs:
        """What board poses are still needed."""
        return needs(self.poses, self.size)

    @property
    def skipped(self) -> tuple[Kind, ...]:
        """Steps that are left out: by hand, for want of a sphere's diameter, or because the rig has no lights."""
        absent: list[Kind] = []
        if self._sphere_mm is None or not self._rig.zones:
            absent.append("spheres")
        if not self._rig.zones:
            absent.append("dark")
            if not self._rig.directions:
                absent.append("white")
        return tuple(dict.fromkeys((*self._skipped, *absent)))

    @property
    def step(self) -> Step | None:
        """What is to be done next, None when everything is there."""
        counts: dict[Kind, int] = {kind: len(self._of(kind)) for kind in KINDS}
        counts["board"] = len(self.poses)
        return next_step(self.needs, counts, self.skipped, self.board, self._sphere_count)

    def _now(self) -> Step:
        step = self.step
        if step is None:
            raise InputError(
                "every step of the walk is done",
                hint="calibrate with its recordings, or drop one with undo()",
                code="walk.done",
            )
        return step

    # -------------------------------------------------------------------------------------------------------- looking
    def look(self) -> Look:
        """A live picture of what lies there now, judged for the step at hand; everything is dark afterwards.

        ``preview.png`` in the session folder shows it, about once a second.

        Raises :class:`DeviceError` when a device fails, ``walk.done`` after the last step.
        """
        with SingleShots(self._rig) as shots:
            look = self._look(shots, self._now())
        if time.monotonic() - self._shown_s >= PREVIEW_EVERY_S or self._now() != self._shown_step:
            self._show(look)
        return look

    def _look(self, shots: SingleShots, step: Step) -> Look:
        if step.kind == "board":
            return self._look_at_board(shots)
        if step.kind == "dark":
            lit, unlit = self._eye.lit_as_is(shots), self._eye.unlit(shots)
            return Look(lit, judge_dark(lit.grey, unlit.grey, lit.full_scale))
        known = self._plate_us() if step.kind == "spheres" else None
        if known is not None:  # mirrors show lamps, which no exposure of their own suits
            self._eye.all_us, self._eye.zone_us = known
        picture = self._eye.lit(shots) if known is None else self._eye.lit_as_is(shots)
        if step.kind == "white":
            return Look(picture, judge_white(picture.grey, picture.light(), spared=2.0 if self._rig.zones else 35.0))
        circles, why = _spheres_in(picture, self._sphere_count)
        earlier = [self._circles_of(r) for r in self._of("spheres")]
        return Look(picture, judge_spheres(circles, why, self._sphere_count, earlier, self.size[0]))

    def _look_at_board(self, shots: SingleShots) -> Look:
        pose: Pose | None = None
        why = ""

        def outline(picture: Picture) -> FloatArray | None:
            nonlocal pose, why
            pose = None
            try:
                pose = pose_of(picture.view("this pose", self.board), self.board)
            except CalibrationError as error:
                why = error.message.partition("seen: ")[2] or error.message
                if error.code == "calibration.board_mismatch":
                    why += ": another board than declared, or a blurred picture"
                return None
            return pose.view.uv

        picture = self._eye.lit(shots, outline)
        light = picture.light(None if pose is None else pose.view.uv)
        return Look(picture, judge(pose, why, light, self.poses, self.board, self.size), pose)

    def _show(self, look: Look, note: str = "") -> None:
        step = self.step
        title = "all steps are done" if step is None else step.title
        write_preview(
            self.session.folder, title, note or (step.instruction if step else ""), look, self.poses, self.needs
        )
        self._shown_s, self._shown_step = time.monotonic(), step

    # --------------------------------------------------------------------------------------------------------- taking
    def take(
        self,
        *,
        force: bool = False,
        progress: Callable[[Progress], None] = lambda _: None,
        cancel: Callable[[], bool] = lambda: False,
    ) -> Taken:
        """Record what lies there for the step at hand, with exposures found for it.

        Nothing is recorded that the guide advises against, unless ``force`` says so; nor what the capture's own checks refuse
        (a board that moved, a dead lamp). The recording appears in the session folder whole or not at all.

        Raises
        ------
        DeviceError
            A device that fails in all attempts; what was taken before stays.
        Cancelled
            ``cancel`` returned true.
        InputError
            ``walk.done``.
        """
        step = self._now()
        with SingleShots(self._rig) as shots:
            look = self._look(shots, step)
            if not look.feedback.ok and not force:
                return Taken(None, look.feedback.reason, look)
            if step.kind != "dark" and not (step.kind == "spheres" and self._plate_us()):
                outline = None if look.pose is None else look.pose.view.uv
                self._eye.find_exposures(shots, outline, patterns=step.kind != "spheres")
        recipe = recipe_of(step, self.board, self._eye, self._patterns, self._sphere_mm, self._sphere_count)
        if step.kind == "dark":
            known = self._plate_us()
            recipe = recipe.model_copy(update={"exposure_us": known[1]}) if known else recipe
        folder = self.session.next_folder(step.kind)
        try:
            capture(self._rig, recipe, folder, part_id=folder.name, progress=progress, cancel=cancel)
        except QualityError as error:
            return Taken(None, error.message, look)
        recording = Recording.open(folder)
        if step.kind == "board":
            pose = self._poses[folder] = self._pose_of(recording)
            if pose is None and not force:
                self._drop(recording)
                return Taken(None, "the board cannot be found in what was recorded; hold it still", look)
        self._show(look, f"taken: {folder.name}")
        return Taken(recording, "", look)

    def _plate_us(self) -> tuple[float, float] | None:
        """Exposures of the plate under all zones and under one; spheres and dark frames take the same."""
        for recording in self._of("white"):
            used = [[f.exposure_us for f in recording.shots(role) if f.exposure_us] for role in _LIT_ROLES]
            if all(used):
                return used[0][0], used[1][0]
        return None

    def skip(self) -> None:
        """Leave the step at hand out, all of its kind, until the end of this walk."""
        self._skipped.append(self._now().kind)

    def undo(self) -> Path | None:
        """Put the latest recording of the session aside; says where it lies now, None if there was none.

        A kind of step that was left out is asked for again if it is what is dropped.
        """
        taken = [
            (r.info.captured_utc or r.info.created_utc, kind, r)
            for kind in KINDS
            for r in self.session.recordings(kind)
        ]
        if not taken:
            return None
        _, kind, latest = max(taken, key=lambda entry: entry[0])
        self._skipped = [k for k in self._skipped if k != kind]
        return self._drop(latest)

    def _drop(self, recording: Recording) -> Path:
        self._poses.pop(recording.folder, None)
        self._circles.pop(recording.folder, None)
        return self.session.drop(recording)

    def lay(self) -> bool:
        """On a simulated rig, lay the target of the step at hand under the camera as a hand would; False on a real one."""
        bench, step = self._rig.bench, self.step
        if bench is None or step is None:
            return False
        if step.kind == "board":
            bench.place(self.board.kind, max(step.number - 1, self._boards_tried()))
        elif step.kind == "white":
            bench.place("white_plane")
        elif step.kind == "spheres":
            turn = _SPHERE_TURNS_DEG[(step.number - 1) % len(_SPHERE_TURNS_DEG)]
            bench.place("chrome_spheres", pose={"angle_deg": turn})
        else:
            bench.place(COVER)
        return True

    def place(self, name: str, seed: int = 0, *, blur_px: float | None = None) -> bool:
        """On a simulated rig, lay something under the camera (``cover``: a cap); False on a real one."""
        if self._rig.bench is None:
            return False
        self._rig.bench.place(name, seed, blur_px=blur_px)
        return True

    def _boards_tried(self) -> int:
        """Number of the next board recording less 1, so that a dropped pose is not laid there again."""
        return int(self.session.next_folder("board").name.rpartition("-")[2]) - 1

    # -------------------------------------------------------------------------------------------------------- reading
    def _pose_of(self, recording: Recording) -> Pose | None:
        try:
            return pose_of(view_of(recording, self.board, decode=False), self.board)
        except CalibrationError:  # a forced one: calibrate_rig names it and leaves it out
            return None

    def _circles_of(self, recording: Recording) -> tuple[Circle, ...]:
        """Spheres of an earlier place; () if they cannot be found."""
        if recording.folder not in self._circles:
            frames = list(recording.shots("all_zones")) or list(recording.shots("zone"))
            grey = grey_of(grey_mean(recording, frames), recording.bayer)
            self._circles[recording.folder] = _circles(grey, recording.info.sphere_count)[0]
        return self._circles[recording.folder]


def _spheres_in(picture: Picture, count: int) -> tuple[tuple[Circle, ...], str]:
    """Outlines in px of the frame, or why there are none."""
    circles, why = _circles(picture.grey, count)
    k = picture.shrink
    return tuple(Circle(c.u * k + (k - 1) / 2, c.v * k + (k - 1) / 2, c.radius * k) for c in circles), why


def _circles(grey: NDArray[np.float32], count: int) -> tuple[tuple[Circle, ...], str]:
    try:
        return tuple(find_spheres(grey, count)), ""
    except CalibrationError as error:
        return (), error.message
