"""A scene with known truth at the end of the wire: parts, defects, targets, lights, projectors and a sensor.

Its projection and shading are its own code, so that it can prove reconstruction and calibration wrong. What it takes from
them: pattern sets (what a projector is told to show), and, to write the truth down, the models and the flat-field format of a
RigCalibration (in ``truth`` alone).
"""
