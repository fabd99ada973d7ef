"""A scene with known truth at the end of the wire: parts, defects, targets, lights, projectors and a sensor.

Its projection and shading are its own code, so that it can prove reconstruction and calibration wrong; of them it takes
only pattern sets (what a projector is told to show) and the file format of a RigCalibration (how the truth is written).
"""

from rakelight.compiled import prepare

prepare(__file__)
