"""One stack of parallel planes: every direction, tilt, tiny voxels, and headers that mislead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicomlake.datasets.edge_cases.building import Made, case, stack, with_elements
from dicomlake.datasets.edge_cases.grids import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Grid, upright
from dicomlake.datasets.edge_cases.objects import MR, numbers
from dicomlake.datasets.edge_cases.records import EdgeCase, Vector

TILT_DEGREES = 19.3
_COS_TILT, _SIN_TILT = 0.9438010, 0.3305144  # of 19.3 degrees


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    yield from _directions()
    yield from _positions_of_patients()
    yield from _few_slices()
    yield from _misleading_headers()
    yield from _scales()


def _directions() -> Iterator[EdgeCase]:
    yield case("axial", "A plain axial stack.", stack("axial", upright(slices=10)))
    falling = stack("falling", upright(slices=10))
    count = len(falling.objects)
    renumbered = tuple(with_elements(one, InstanceNumber=count - i) for i, one in enumerate(falling.objects))
    yield case(
        "descending", "InstanceNumber falls while z rises: z rises.", Made(falling.volume, renumbered[::-1])
    )
    yield case(
        "sagittal",
        "Sagittal planes, whose normal points to the patient's right.",
        stack("sagittal", upright(SAGITTAL), sop_class=MR, modality="MR"),
    )
    yield case(
        "coronal",
        "Coronal planes, whose normal points to the patient's back.",
        stack("coronal", upright(CORONAL), sop_class=MR, modality="MR"),
    )
    yield case(
        "oblique",
        "Planes turned about two axes.",
        stack("oblique", upright(OBLIQUE, slices=7, step_mm=3.3), sop_class=MR, modality="MR"),
    )
    yield case("gantry-tilt", "The gantry leans while the table moves straight: a sheared box.", tilted())


def tilted() -> Made:
    """A CT with its gantry tilted: the planes lean back, the table still moves along the patient."""
    column: Vector = (0.0, _COS_TILT, -_SIN_TILT)
    grid = Grid((-11.5, 7.25, -30.5), AXIAL[0], column, (0.0, 0.0, 2.5), 9)
    made = stack("gantry-tilt", grid)
    return made.with_volume(verdict="sheared", facts={"tilt_degrees": TILT_DEGREES})


def _positions_of_patients() -> Iterator[EdgeCase]:
    feet_first: tuple[Vector, Vector] = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    yield case(
        "feet-first",
        "A patient feet first: rows run to the right, so z of the volume runs to the feet.",
        stack("feet-first", upright(feet_first), elements={"PatientPosition": "FFS"}),
    )
    on_the_side: tuple[Vector, Vector] = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
    yield case(
        "decubitus",
        "A patient on the left side: rows run to the front, columns to the left.",
        stack("decubitus", upright(on_the_side), elements={"PatientPosition": "HFDL"}),
    )
    prone: tuple[Vector, Vector] = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    yield case(
        "prone",
        "A patient face down: both axes in the plane are turned.",
        stack("prone", upright(prone), elements={"PatientPosition": "HFP"}),
    )


def _few_slices() -> Iterator[EdgeCase]:
    yield case("two-slices", "Two planes make a step.", stack("two-slices", upright(slices=2, step_mm=4.5)))
    yield case(
        "one-slice",
        "One plane with its thickness stated: 3.5 mm stand in for a step.",
        stack("one-slice", upright(slices=1, step_mm=3.5), elements={"SliceThickness": "3.5"}).with_volume(
            facts={"slice_step": "nominal"}
        ),
    )
    yield case(
        "one-slice-of-no-thickness",
        "One plane that says nothing of its thickness: 1 mm stands in, and is called unknown.",
        stack(
            "one-slice-of-no-thickness", upright(slices=1, step_mm=1.0), elements={"SliceThickness": None}
        ).with_volume(facts={"slice_step": "unknown"}),
    )


def _misleading_headers() -> Iterator[EdgeCase]:
    shuffled = (4, 1, 6, 2, 7, 3, 5)
    yield case(
        "instance-number-lies",
        "InstanceNumber is out of order: positions alone decide.",
        stack(
            "instance-number-lies",
            upright(slices=7),
            each=lambda place: {"InstanceNumber": shuffled[place[0]]},
        ),
    )
    yield case(
        "no-instance-number",
        "Objects without InstanceNumber.",
        stack("no-instance-number", upright(slices=7), elements={"InstanceNumber": None}),
    )
    yield case(
        "equal-instance-numbers",
        "All objects have the same InstanceNumber.",
        stack("equal-instance-numbers", upright(slices=7), elements={"InstanceNumber": 1}),
    )
    yield case(
        "no-frame-of-reference",
        "Objects without FrameOfReferenceUID: in one series they share one, unnamed.",
        stack("no-frame-of-reference", upright(slices=7), elements={"FrameOfReferenceUID": None}),
    )
    yield case(
        "negative-spacing",
        "SpacingBetweenSlices is negative: no matter, the positions are stated.",
        stack("negative-spacing", upright(step_mm=2.5), elements={"SpacingBetweenSlices": "-2.5"}),
    )
    yield case(
        "wrong-thickness",
        "SliceThickness and SpacingBetweenSlices disagree with the positions: the positions count.",
        stack(
            "wrong-thickness",
            upright(step_mm=2.5),
            elements={"SliceThickness": "5", "SpacingBetweenSlices": "7.5"},
        ),
    )
    yield case(
        "wrong-slice-location",
        "SliceLocation runs the other way: it is for display only.",
        stack(
            "wrong-slice-location",
            upright(slices=6),
            each=lambda place: {"SliceLocation": numbers([-2.0 * place[0]])[0]},
        ),
    )


def _scales() -> Iterator[EdgeCase]:
    tiny = upright(
        slices=10, step_mm=0.009, spacing=(0.009, 0.0095), origin=(-0.115, 0.0725, -0.305), rows=5, columns=7
    )
    yield case("micro-ct", "Voxels of 9 µm: planes so close are not at one place.", stack("micro-ct", tiny))
    noise = (3, -5, 1, 4, -2, 5, -4, 0, 2, -1)  # µm
    grid = upright(slices=10)
    yield case(
        "noisy-positions",
        "Positions with float noise of 5e-3 mm still are a regular stack.",
        stack(
            "noisy-positions",
            grid,
            each=lambda place: {"ImagePositionPatient": numbers(_moved(grid, place[0], noise))},
        ).with_volume(tolerance_mm=6e-3),
    )
    turned = upright(OBLIQUE, slices=8)
    yield case(
        "noisy-directions",
        "Direction cosines and pixel spacings that differ in their last digits are the same.",
        stack(
            "noisy-directions",
            turned,
            each=lambda place: {
                "ImageOrientationPatient": numbers(_trembling(turned.orientation, place[0], 2e-6)),
                "PixelSpacing": numbers(_trembling(turned.spacing, place[0], 2e-6)),
            },
        ).with_volume(tolerance_mm=2e-5),
    )
    far = upright(slices=6, origin=(-2311.5, 1507.25, 4030.5))
    yield case("far-away", "A frame of reference whose origin is metres away.", stack("far-away", far))


def _trembling(values: Sequence[float], k: int, size: float) -> list[float]:
    return [value + size * ((3 * k + 5 * i) % 7 - 3) / 3 for i, value in enumerate(values)]


def _moved(grid: Grid, k: int, noise: tuple[int, ...]) -> Vector:
    x, y, z = grid.position(k)
    return x + noise[k] / 1000, y - noise[-k] / 1000, z + noise[k - 3] / 1000
